"""Writes the table of foreign test files in reference/formats.md: each opens, or is refused for a stated reason.

The files come inside the wheels of pydicom, nibabel and highdicom (where there are any), so that anyone can run this again:

    python docs/make_formats_table.py
"""

from __future__ import annotations

import re
import warnings
from importlib import import_module
from importlib.metadata import files, version
from pathlib import Path

import napari_medseq as ms
from napari_medseq.io import detect

PAGE = Path(__file__).parent / "reference" / "formats.md"
START, STOP = "<!-- table made by docs/make_formats_table.py -->", "<!-- end of table -->"
PACKAGES = ("pydicom", "nibabel", "highdicom")
FOLDERS = (
    ("pydicom", "data/test_files"),
    ("pydicom", "data/charset_files"),
    ("pydicom", "data/palettes"),
    ("nibabel", "tests/data"),
    ("nibabel", "nicom/tests/data"),
)
ASKED = re.compile(r"\.(dcm|nii|hdr|mgz|mgh|nrrd)(\.gz)?$", re.IGNORECASE)


def outcome(path: Path) -> str:
    """One cell: what came out, or why it was refused."""
    if detect(path) is None:
        return "declined: its first bytes are of no format read here"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = ms.read(path)
    except ms.MedseqError as error:
        why = re.sub(r"/\S*/", "", str(error).split(": ", 1)[-1]).replace("|", "/")
        return f"refused: {why[:150]}"
    said = "; ".join(f"{s.modality or s.kind} " + "×".join(str(n) for n in s.data.shape) for s in found[:3])
    said += f" and {len(found) - 3} more" if len(found) > 3 else ""
    doubts = sum(len(s.warnings) for s in found)
    return said + (f" ({doubts} warning{'s' if doubts > 1 else ''})" if doubts else "")


def shipped(package: str) -> int:
    """How many image files come inside the wheel of a package."""
    return sum(1 for f in files(package) or [] if ASKED.search(f.name))


def rows() -> list[str]:
    """A sentence on each package, and the table's lines."""
    out = [""]
    for package in PACKAGES:
        count = shipped(package)
        said = (
            f"{count} image files in its wheel" if count else "no image file in its wheel (nor in its source archive)"
        )
        out.append(f"- {package} {version(package)}: {said}")
    out += ["", "| file | comes with | outcome |", "| --- | --- | --- |"]
    for package, folder in FOLDERS:
        root = Path(import_module(package).__file__ or "").parent / folder
        for path in sorted(root.rglob("*")):
            if path.is_file() and (ASKED.search(path.name) or detect(path)):
                out.append(f"| `{path.relative_to(root)}` | {package} | {outcome(path)} |")
    return out


def main() -> None:
    """Put the table between its marks."""
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(START)[0], page.split(STOP)[1]
    PAGE.write_text(before + START + "\n" + "\n".join(rows()) + "\n" + STOP + after, encoding="utf-8")


if __name__ == "__main__":
    main()
