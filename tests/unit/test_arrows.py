"""The import graph: no circles, lazy and type-only imports counted, and no module reaches for another's private names.

That the arrows run one way is import-linter's part (`pyproject.toml`, run by `test_house`). Here the names that a package hands out by
its ``.pyi`` stub count as imports too: ``from napari_medseq.io import read`` leads to ``io.reading``, whenever it is loaded.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import grimp
import networkx
import pytest

ROOT = "napari_medseq"
SOURCE = Path(__file__).parents[2] / "src"

#: modules that still stand on a circle; whoever unties one takes its modules off, and none is ever added
KNOWN_CIRCLES: frozenset[str] = frozenset()
#: "module: private name" that is still reached for from another module
KNOWN_REACHES: frozenset[str] = frozenset()


@cache
def graph() -> networkx.DiGraph[str]:
    """Module → module that it imports, at any place and for any purpose."""
    found = grimp.build_graph(ROOT, cache_dir=None)
    arrows = networkx.DiGraph()
    arrows.add_nodes_from(found.modules)
    arrows.add_edges_from((m, i) for m in found.modules for i in found.find_modules_directly_imported_by(m))
    for stub in SOURCE.rglob("__init__.pyi"):
        package = ".".join(stub.parent.relative_to(SOURCE).parts)
        for node in ast.walk(ast.parse(stub.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                module = f"{package}.{node.module}" if node.level else str(node.module)
                arrows.add_edges_from((package, _module(arrows, f"{module}.{name.name}")) for name in node.names)
    return arrows


def _module(arrows: networkx.DiGraph[str], name: str) -> str:
    """The module that a dotted name is, or lies in."""
    return name if name in arrows else name.rpartition(".")[0]


def test_the_graph_sees_lazy_and_type_only_imports_and_stubs() -> None:
    assert graph().has_edge(f"{ROOT}.cli.images", f"{ROOT}")  # inside a function
    assert graph().has_edge(f"{ROOT}", f"{ROOT}.pipeline")  # by the stub alone
    assert graph().has_edge(f"{ROOT}.volumes.grid", f"{ROOT}.progress")
    assert len(graph()) > 200


def test_there_is_no_circle_between_modules() -> None:
    circles = [c for c in networkx.strongly_connected_components(graph()) if len(c) > 1]
    standing = {m.removeprefix(f"{ROOT}.") for c in circles for m in c}
    new = sorted(standing - KNOWN_CIRCLES)
    shortest = {
        m: networkx.find_cycle(graph().subgraph(next(c for c in circles if f"{ROOT}.{m}" in c or m in c)))
        for m in new[:1]
    }
    assert not new, f"{', '.join(new)} now stand on a circle: {shortest}"
    untied = sorted(KNOWN_CIRCLES - standing)
    assert not untied, f"no circle goes through {', '.join(untied)} any more: take them off KNOWN_CIRCLES"


@cache
def reaches() -> frozenset[str]:
    """Each private name of one of our modules that another module imports or looks up."""
    found = set()
    for path in sorted(SOURCE.rglob("*.py")):
        module = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        ours: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == ROOT:
                ours |= {name.asname or name.name for name in node.names}
                found |= {f"{module}: {name.name}" for name in node.names if _private(name.name)}
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and _private(node.attr)
                and isinstance(node.value, ast.Name)
                and node.value.id in ours
            ):
                found.add(f"{module}: {node.value.id}.{node.attr}")
    return frozenset(name.removeprefix(f"{ROOT}.") for name in found)


def _private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_napari"


def test_no_module_reaches_for_another_modules_private_names() -> None:
    new = sorted(reaches() - KNOWN_REACHES)
    assert not new, f"private names of another module: {new}; give them a name without underscore where they are made"
    gone = sorted(KNOWN_REACHES - reaches())
    assert not gone, f"{gone} is no longer so: take it off KNOWN_REACHES"


@pytest.mark.parametrize("package", sorted(p.parent for p in SOURCE.rglob("__init__.pyi")), ids=lambda p: p.name)
def test_a_stub_lists_each_name_once(package: Path) -> None:
    tree = ast.parse((package / "__init__.pyi").read_text(encoding="utf-8"))
    names = [n.asname or n.name for node in tree.body if isinstance(node, ast.ImportFrom) for n in node.names]
    assert len(names) == len(set(names))
    listed = next(n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__")
    assert set(ast.literal_eval(listed)) - {"__version__"} == set(names)
