"""The pages of the API reference, from the names that the package makes public: one page per room, every name on it.

A room's public names are those of its stub (`__init__.pyi`), else of `__all__` in its module; what `napari_medseq` itself hands on
(`ms.read`) comes first, under that name. What a name does comes from its docstring, by mkdocstrings.
"""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = "napari_medseq"
SOURCE = Path(__file__).parents[2] / "src" / PACKAGE
#: room → what its page is called, in the order of the menu
ROOMS = {
    "sequence": "Objects",
    "io": "Read and write",
    "preprocessing": "Preprocess",
    "registration": "Register",
    "models": "Models",
    "inference": "Segment, classify, locate",
    "training": "Train, teach, compress",
    "evaluation": "Evaluate",
    "progression": "Follow lesions",
    "progression.response": "Response rules",
    "dynamics": "Dynamic series",
    "pipeline": "The main job",
    "repeatability": "Is a change real",
    "cohort": "Many patients",
    "viewer": "In a napari viewer",
    "masks": "Edit masks",
    "masks.tools": "Editing tools",
    "synthetic": "Synthetic patients",
    "geometry": "Geometry",
    "progress": "Progress and cancelling",
    "errors": "Errors and warnings",
}


def _source(room: str) -> Path:
    """The file that lists a room's names."""
    base = SOURCE.joinpath(*room.split(".")) if room else SOURCE
    found = [base / "__init__.pyi", base / "__init__.py", base.with_suffix(".py")]
    return next(path for path in found if path.is_file())


def public(room: str) -> list[str]:
    """The names that a room lists in its stub or module; all that have no underscore where it lists none."""
    tree = ast.parse(_source(room).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return [name for name in ast.literal_eval(node.value) if not name.startswith("__")]
    kinds = ast.FunctionDef | ast.ClassDef
    return [node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]


def handed_on() -> dict[str, list[str]]:
    """Room → its names that `import napari_medseq as ms` offers."""
    found: dict[str, list[str]] = {}
    for node in ast.parse(_source("").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found.setdefault(node.module or "", []).extend(alias.asname or alias.name for alias in node.names)
    return found


def page(room: str) -> str:
    """One page as Markdown."""
    first = handed_on().get(room, [])
    rest = [name for name in public(room) if name not in first]
    lines = [f"# {ROOMS[room]}", "", f"::: {PACKAGE}.{room}", "    options:", "      show_root_heading: false"]
    lines += ["      show_root_toc_entry: false", "      members: false", ""]
    if first:
        lines += ["## In `import napari_medseq as ms`", ""]
        lines += [f"::: {PACKAGE}.{name}\n" for name in first]
    if rest:
        lines += [f"## In `napari_medseq.{room}`", ""]
        lines += [f"::: {PACKAGE}.{room}.{name}\n" for name in rest]
    return "\n".join(lines)


def pages() -> dict[str, str]:
    """Every page by its place in the site.

    Raises
    ------
    ValueError
        If a public name of the package is on no page.
    """
    homeless = set(handed_on()) - set(ROOMS)
    if homeless:
        raise ValueError(f"public names come from {sorted(homeless)}, which have no page in docs/tooling/api.py: ROOMS")
    return {f"reference/api/{room.replace('.', '-')}.md": page(room) for room in ROOMS}
