"""The licences of everything that napari-medseq asks for, from the installed packages' own metadata.

python tools/licences.py            # prints the table of docs/reference/licences.md
python tools/licences.py --write    # puts it into the page
python tools/licences.py --check    # fails if a licence is not allowed in the base, or the page is out of date
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "licences.md"
START, STOP = "<!-- table made by tools/licences.py -->", "<!-- end of table -->"
#: strong copyleft has no place in the base; LGPL only as an extra
REFUSED = re.compile(r"\bA?GPL|\bGNU (Affero )?General Public", re.IGNORECASE)
LESSER = re.compile(r"\bLGPL|GNU Lesser", re.IGNORECASE)
_NAME = re.compile(r"^[A-Za-z0-9._-]+")


def needed() -> dict[str, set[str]]:
    """Direct dependencies by name, with the extras that ask for them; "" is the base."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: dict[str, set[str]] = {}
    for extra, requirements in {"": project["dependencies"], **project["optional-dependencies"]}.items():
        for requirement in requirements:
            if match := _NAME.match(requirement):
                found.setdefault(match[0], set()).add(extra)
    return found


def licence(name: str) -> str | None:
    """What a package says of its own licence; None where it is not installed."""
    try:
        metadata = distribution(name).metadata
    except PackageNotFoundError:
        return None
    said = metadata.get("License-Expression") or ""
    if not said:
        classifiers = [
            c.rpartition(" :: ")[2] for c in metadata.get_all("Classifier") or [] if c.startswith("License ::")
        ]
        said = "; ".join(c for c in classifiers if c != "OSI Approved")
    if not said:
        said = (metadata.get("License") or "").strip().splitlines()[0] if metadata.get("License") else "see its files"
    return said.replace("|", "/")[:80]


def rows() -> list[str]:
    """The lines of the table."""
    out = ["| package | needed for | licence |", "| --- | --- | --- |"]
    for name, extras in sorted(needed().items(), key=lambda item: item[0].lower()):
        said = licence(name)
        if said is not None:
            where = "base" if "" in extras else ", ".join(sorted(extras))
            out.append(f"| {name} | {where} | {said} |")
    return out


def refused() -> list[str]:
    """Packages of the base whose licence is not allowed there."""
    base = [name for name, extras in needed().items() if "" in extras]
    bad = []
    for name in base:
        said = licence(name) or ""
        if LESSER.search(said) or REFUSED.search(LESSER.sub("", said)):
            bad.append(f"{name}: {said}")
    return bad


def main() -> None:
    """Print, write or check."""
    table = "\n".join(rows())
    bad = refused()
    if bad:
        sys.exit("not allowed in the base: " + "; ".join(bad))
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(START)[0], page.split(STOP)[1]
    if "--write" in sys.argv:
        PAGE.write_text(f"{before}{START}\n\n{table}\n\n{STOP}{after}", encoding="utf-8")
    elif "--check" in sys.argv:
        listed = {line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")}
        missing = {row.split("|")[1].strip() for row in rows()} - listed
        if missing:
            sys.exit(
                f"docs/reference/licences.md lacks {', '.join(sorted(missing))}; run: python tools/licences.py --write"
            )
        print(f"licences: {len(table.splitlines()) - 2} packages, none refused")
    else:
        print(table)


if __name__ == "__main__":
    main()
