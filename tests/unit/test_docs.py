"""The pages: every link leads somewhere, every Python example compiles and uses names that exist."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest
import yaml

import napari_medseq as ms
from napari_medseq import viewer

ROOT = Path(__file__).parents[2]
#: made while the site is built, which checks the links into them
GENERATED = tuple(ROOT / "docs" / folder for folder in ("gallery", "generated", "models", "project", "reference/api"))
PAGES = sorted(
    page for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")] if not page.is_relative_to(GENERATED[0])
)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)


def title(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_links_lead_to_files_that_exist(page: Path) -> None:
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://", "#")):
            continue
        path = (page.parent / target.partition("#")[0]).resolve()
        generated = any(path.is_relative_to(folder) for folder in GENERATED)
        assert generated or path.exists(), f"{title(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_python_examples_compile_and_use_names_that_exist(page: Path) -> None:
    for code in _CODE.findall(page.read_text(encoding="utf-8")):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ms":
                assert node.attr in ms.__all__, f"{title(page)}: ms.{node.attr} is not public"


def test_every_page_can_be_reached_from_the_index() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "docs" / "index.md", ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        links = _LINK.findall(page.read_text(encoding="utf-8"))
        waiting += [
            p for t in links if (p := (page.parent / t.partition("#")[0]).resolve()).suffix == ".md" and p.is_file()
        ]
    assert [title(p) for p in PAGES if p not in reached] == []


def test_no_page_holds_a_placeholder() -> None:
    for page in PAGES:
        assert not re.search(r"\b(TODO|TBD|FIXME|XXX|lorem ipsum)\b", page.read_text(encoding="utf-8")), title(page)


@pytest.mark.parametrize("page", ["reference/axes-affine-units.md", "how-to/coming-from.md", "how-to/preprocess.md"])
def test_examples_that_need_no_file_are_true(page: str) -> None:
    codes = _CODE.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))
    assert codes
    for code in codes:
        assert "assert" in code
        exec(compile(code, page, "exec"), {})


def test_every_message_of_the_troubleshooting_page_is_said_by_the_package() -> None:
    page = (ROOT / "docs" / "how-to" / "troubleshooting.md").read_text(encoding="utf-8")
    cells = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    pieces = [piece for cell in cells for piece in re.findall(r"`([^`]+)`", cell)]
    assert len(pieces) > 15
    source = "\n".join(
        re.sub(r'"\s*\n\s*f?"', "", path.read_text(encoding="utf-8"))  # a message may go on in the next line
        for path in (ROOT / "src").rglob("*.py")
    )
    assert [piece for piece in pieces if piece not in source] == []


def test_the_site_knows_the_rooms_and_the_public_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs" / "tooling")
    api, rooms = importlib.import_module("api"), importlib.import_module("rooms")
    assert sum(map(len, rooms.stations().values())) == len(rooms.WAY)
    pages = "\n".join(api.pages().values())
    assert [name for name in ms.__all__ if f"::: napari_medseq.{name}\n" not in pages and name != "__version__"] == []
    assert len(viewer.__all__) > 50
    assert [name for name in viewer.__all__ if f"::: napari_medseq.viewer.{name}\n" not in pages] == []
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [place for place in api.pages() if place not in menu] == []


def test_every_page_on_disk_is_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    inside = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.is_relative_to(ROOT / "docs")]
    assert [page for page in inside if page not in menu] == []


def test_every_widget_has_a_page_with_a_picture_that_a_script_made() -> None:
    manifest = yaml.safe_load((ROOT / "src" / "napari_medseq" / "napari.yaml").read_text(encoding="utf-8"))
    script = (ROOT / "docs" / "make_screenshots.py").read_text(encoding="utf-8")
    names = [widget["display_name"].lower().replace(" ", "-") for widget in manifest["contributions"]["widgets"]]
    assert len(names) == 9
    for name in names:
        page = (ROOT / "docs" / "widgets" / f"{name}.md").read_text(encoding="utf-8")
        assert f"](../images/{name}.png)" in page, name
        assert f'"{name}"' in script, name


def test_what_the_page_on_scale_quotes_was_measured() -> None:
    quoted = re.findall(
        r"\*\*([\d.]+[^*]*)\*\*", (ROOT / "docs" / "reference" / "scale.md").read_text(encoding="utf-8")
    )
    measured = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert len(quoted) >= 10
    assert [figure for figure in quoted if not re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d.]*\d)", measured)] == []
