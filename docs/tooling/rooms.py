"""The picture of the rooms, drawn from the import graph: `python docs/tooling/rooms.py rooms.svg`.

A box is a room (a package or module directly under `napari_medseq`), a row is a layer of the import-linter contract in
`pyproject.toml`, with the ground at the bottom, and a line is an import that does not follow from others (transitive reduction).
The numbers are the way of one patient through the rooms; the site says beside the picture what happens there.
"""

from __future__ import annotations

import sys
import tomllib
from html import escape
from importlib import import_module
from pathlib import Path

import grimp
import networkx as nx

ROOT = Path(__file__).parents[2]
PACKAGE = "napari_medseq"
#: what `ms.run` calls for one patient, in order
WAY = (
    "io.read_study",
    "models.load_model",
    "models.choosing.choose_images",
    "registration.visits",
    "inference.segment",
    "progression.track",
    "record.write_run",
)
WIDTH, BOX, ROW, GAP = 900, 34, 74, 18


def layers() -> list[list[str]]:
    """The rows from top to ground, as the contract in `pyproject.toml` names them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    rows = next(c["layers"] for c in contracts if c.get("containers") == [PACKAGE])
    return [[room.strip(" ()") for room in row.replace(":", "|").split("|")] for row in rows]


def edges(rooms: set[str]) -> nx.DiGraph:
    """Room → room that it imports from, without what follows from other lines."""
    graph = grimp.build_graph(PACKAGE)
    found = nx.DiGraph()
    found.add_nodes_from(rooms)
    for module in graph.modules:
        room = module.removeprefix(PACKAGE).strip(".").partition(".")[0]
        for other in graph.find_modules_directly_imported_by(module):
            target = other.removeprefix(PACKAGE).strip(".").partition(".")[0]
            if {room, target} <= rooms and room != target:
                found.add_edge(room, target)
    return nx.transitive_reduction(found) if nx.is_directed_acyclic_graph(found) else found


def places(rows: list[list[str]]) -> dict[str, tuple[float, float, float]]:
    """Room → left edge, top edge and width of its box."""
    found = {}
    for number, row in enumerate(rows):
        widths = [26 + 9.2 * len(room) for room in row]
        left = (WIDTH - sum(widths) - GAP * (len(row) - 1)) / 2
        for room, width in zip(row, widths, strict=True):
            found[room] = (left, 12 + ROW * number, width)
            left += width + GAP
    return found


def stations() -> dict[str, list[int]]:
    """Room → the numbers of the stations of a patient in it; each is looked up, so that none is invented."""
    found: dict[str, list[int]] = {}
    for number, name in enumerate(WAY, 1):
        module, _, function = name.rpartition(".")
        if not callable(getattr(import_module(f"{PACKAGE}.{module}"), function)):
            raise TypeError(f"{name} is not a function of {PACKAGE}")
        found.setdefault(name.partition(".")[0], []).append(number)
    return found


def draw() -> str:
    """The picture as SVG."""
    rows = layers()
    where, numbers = places(rows), stations()
    height = 12 + ROW * len(rows)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="15">',
        '<defs><marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#7986cb"/></marker></defs>',
    ]
    for room, target in sorted(edges(set(where)).edges):
        (x, y, w), (tx, ty, tw) = where[room], where[target]
        ax, ay, bx, by = x + w / 2, y + BOX, tx + tw / 2, ty
        bend = (by - ay) / 2
        out.append(
            f'<path d="M{ax:.0f} {ay:.0f}C{ax:.0f} {ay + bend:.0f} {bx:.0f} {by - bend:.0f} {bx:.0f} {by:.0f}" '
            'fill="none" stroke="#9fa8da" stroke-width="1.6" marker-end="url(#a)"/>'
        )
    for room, (x, y, w) in where.items():
        out.append(
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{w:.0f}" height="{BOX}" rx="6" fill="#e8eaf6" stroke="#3f51b5"/>'
            f'<text x="{x + w / 2:.0f}" y="{y + 22:.0f}" text-anchor="middle" fill="#1a237e">{escape(room)}</text>'
        )
        for k, number in enumerate(numbers.get(room, ())):
            cx = x + w - 4 - 22 * k
            out.append(
                f'<circle cx="{cx:.0f}" cy="{y:.0f}" r="10" fill="#c2185b"/>'
                f'<text x="{cx:.0f}" y="{y + 5:.0f}" text-anchor="middle" fill="#fff" font-size="13">{number}</text>'
            )
    return "\n".join([*out, "</svg>\n"])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(draw(), encoding="utf-8")
