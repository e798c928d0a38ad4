"""The conda recipe's draft, packaging/recipe.yaml, from pyproject.toml.

python tools/recipe.py                      # writes everything after its build section
python tools/recipe.py --compare meta.yaml  # what grayskull, run on the source archive, asks for otherwise
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "packaging" / "recipe.yaml"
#: what conda-forge calls otherwise
NAMES = {
    "SimpleITK": "simpleitk",
    "torch": "pytorch",
    "dask[array]": "dask-core",
    "matplotlib": "matplotlib-base",
    "lazy-loader": "lazy-loader",
}
_PARTS = re.compile(r"^([A-Za-z0-9._-]+(?:\[\w+\])?)\s*(.*)$")


def requirement(text: str) -> str:
    """One requirement as conda writes it."""
    match = _PARTS.match(text)
    name, bounds = (match[1], match[2]) if match else (text, "")
    return f"{NAMES.get(name, name.lower())} {bounds}".strip()


def licences() -> list[str]:
    """The licences of the weights that the package holds; conda-forge wants them named."""
    found = (ROOT / "src" / "napari_medseq" / "bundles").glob("*/LICENSE")
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def otherwise(drafted: str) -> set[str]:
    """Requirements to run that stand in only one of grayskull's recipe and pyproject.toml."""
    section = drafted.partition("  run:\n")[2]
    theirs = {line.strip()[2:] for line in section.split("\n\n")[0].splitlines() if line.startswith("    - ")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {r for r in theirs ^ set(map(requirement, project["dependencies"])) if not r.startswith("python ")}


def main() -> None:
    """Everything after the build section is made anew."""
    if "--compare" in sys.argv:
        found = otherwise(Path(sys.argv[-1]).read_text(encoding="utf-8"))
        sys.exit("differs: " + ", ".join(sorted(found)) if found else 0)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    about, build = project["project"], project["build-system"]["requires"]
    python = f"python {about['requires-python']}"
    lines = ["requirements:", "  host:", f"    - {python}", "    - pip", *(f"    - {requirement(r)}" for r in build)]
    lines += ["  run:", f"    - {python}", *(f"    - {requirement(r)}" for r in about["dependencies"])]
    lines += ["tests:", "  - python:", "      imports: [napari_medseq]", "      pip_check: true", "  - script:"]
    lines += [
        "      - napari-medseq --help",
        "about:",
        f"  summary: {about['description']}",
        f"  license: {about['license']}",
    ]
    lines += [
        "  license_file:",
        "    - LICENSE",
        *(f"    - {path}" for path in licences()),
        "extra:",
        "  recipe-maintainers: []  # named when it is sent in",
    ]
    head = RECIPE.read_text(encoding="utf-8").split("requirements:")[0]
    RECIPE.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
