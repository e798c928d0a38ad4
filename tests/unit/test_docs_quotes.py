"""What the pages quote exists: every command line with its options, every name of the package with its arguments, every control's name."""

from __future__ import annotations

import argparse
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import napari_medseq as ms
from napari_medseq.cli import parser

ROOT = Path(__file__).parents[2]
#: made from the parser itself
MADE = ("docs/reference/cli.md", "docs/gallery/")
PAGES = [
    page
    for page in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")])
    if not page.relative_to(ROOT).as_posix().startswith(MADE)
]
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_COMMAND = re.compile(r"^(?:\$ )?(?:\.venv/bin/)?(?:\w+ -m napari_medseq|napari-medseq) (.+)$")
_CALL = re.compile(r"\bms\.([A-Za-z_][\w.]*)(?:\(([^()]*)\))?")


def title(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def quoted(text: str) -> Iterator[tuple[str, bool]]:
    """Each command that a page quotes, after its own name, and whether it stands whole in a block to be copied."""
    for language, block in _FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            match = _COMMAND.match(line.strip())
            if match and language in ("sh", "bash", "text", "console"):
                yield match[1], language != "text"
    for piece in _INLINE.findall(_FENCE.sub("", text)):
        match = _COMMAND.match(piece)
        if match:
            yield match[1], False


def words(command: str) -> list[str]:
    """The arguments of the first command of a line; comments, pipes and redirections left out."""
    found = []
    for word in shlex.split(command.replace("…", " "), comments=True):
        if word in ("|", "&&", ";", ">", "2>"):
            break
        found.append(word)
    return found


def commands() -> dict[str, argparse.ArgumentParser]:
    action = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


def wrong(command: str, whole: bool) -> str | None:
    """What does not exist in a quoted command."""
    name, *rest = words(command) or [""]
    if name.startswith("-"):
        return None if name in parser()._option_string_actions else f"{name} is not an option"
    if name not in commands():
        return f"{name} is not a command"
    known = commands()[name]._option_string_actions
    for word in rest:
        option = word.partition("=")[0]
        if re.match(r"--?[a-z]", word) and option not in known:
            return f"{name} has no option {option}"
    if whole:
        try:
            parser().parse_args([name, *rest])
        except SystemExit:
            return "the command refuses it"
    return None


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_quoted_commands_exist_with_their_options(page: Path) -> None:
    found = list(quoted(page.read_text(encoding="utf-8")))
    assert [(command, said) for command, whole in found if (said := wrong(command, whole))] == []


def test_commands_that_do_not_exist_are_found() -> None:
    text = "```sh\nnapari-medseq fly a/ -o b   # away\n```\nand `napari-medseq run a --wings 3`, `napari-medseq info`."
    assert [wrong(*one) for one in quoted(text)] == ["fly is not a command", "run has no option --wings", None]
    assert [wrong(*one) for one in quoted("```sh\nnapari-medseq segment a\n```")] == ["the command refuses it"]
    assert sum(len(list(quoted(page.read_text(encoding="utf-8")))) for page in PAGES) > 50


def missing(name: str, arguments: str | None) -> str | None:
    """What does not exist in a quoted use of the package."""
    thing: object = ms
    for part in name.rstrip(".").split("."):
        if not hasattr(thing, part):
            return f"ms.{name}: there is no {part}"
        thing = getattr(thing, part)
    if arguments and callable(thing):
        parameters = inspect.signature(thing).parameters
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            for keyword in re.findall(r"\b(\w+)=(?!=)", arguments):
                if keyword not in parameters:
                    return f"ms.{name} takes no {keyword}="
    return None


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_quoted_names_exist_with_their_arguments(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    pieces = [block for language, block in _FENCE.findall(text) if language == "python"]
    pieces += _INLINE.findall(_FENCE.sub("", text))
    found = [use for piece in pieces for use in _CALL.findall(piece)]
    assert [said for name, arguments in found if (said := missing(name, arguments))] == []


def test_names_that_do_not_exist_are_found() -> None:
    assert missing("fly", None) == "ms.fly: there is no fly"
    assert missing("Progression.fly", None) == "ms.Progression.fly: there is no fly"
    assert missing("read", "path, wings=2") == "ms.read takes no wings="
    assert missing("read", "path, kind='labels'") is None


#: napari's own, and what is put together from two words
ELSEWHERE = {
    "Plugins",
    "File",
    "Layers",
    "Save Selected Layers",
    "Preferences",
    "Open Sample",
    "New Layer",
    "IO Utilities",
    "entry point",
}
_SLANTED = re.compile(r"(?<!\*)\*(?![*\s])([^*\n]+)\*(?!\*)")
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*")


def test_pages_for_users_name_controls_that_there_are() -> None:
    """What a page sets in italics, and a tutorial in bold, is the name of a control, a menu or a layer: it stands in the source."""
    source = "\n".join(
        re.sub(r'"\s*\n\s*f?"', "", path.read_text(encoding="utf-8"))
        for folder in ("_napari", "viewer", "dynamics")
        for path in sorted((ROOT / "src" / "napari_medseq" / folder).rglob("*.py"))
    ) + (ROOT / "src" / "napari_medseq" / "napari.yaml").read_text(encoding="utf-8")
    folded = source.lower()
    unknown = []
    named = 0
    tutorials = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
    pages = [page for folder in ("widgets", "how-to") for page in sorted((ROOT / "docs" / folder).glob("*.md"))]
    for page in [*pages, *tutorials, ROOT / "docs" / "explanation" / "editing.md", ROOT / "README.md"]:
        plain = _INLINE.sub("", _FENCE.sub("", page.read_text(encoding="utf-8")))
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", plain)
        for words_ in [*_SLANTED.findall(text), *(_BOLD.findall(text) if page in tutorials else ())]:
            for name in re.split(r" → |: ", words_):
                named += 1
                bare = name.strip(" .:").removesuffix(" …")
                if bare and bare not in ELSEWHERE and bare.lower() not in folded:
                    unknown.append(f"{title(page)}: {name}")
    assert named > 150
    assert unknown == []
