"""The rules of the house that a test can check: light imports, short modules, one exception family, one-way arrows."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

import napari_medseq as ms
from napari_medseq import errors

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "napari_medseq"
MODULES = sorted(SOURCE.rglob("*.py"))
HEAVY = (
    "numpy",
    "torch",
    "monai",
    "SimpleITK",
    "pandas",
    "napari",
    "qtpy",
    "PySide6",
    "matplotlib",
    "pydantic",
    "nibabel",
    "dask",
)


#: parameters whose meaning is the same everywhere
_NEED_NO_WORDS = {"self", "cls", "progress", "cancelled"}


def names(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*{{m.partition('.')[0] for m in sys.modules}})"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_after("import napari_medseq") & set(HEAVY) == set()


def test_reading_images_loads_neither_torch_nor_napari() -> None:
    found = loaded_after("import napari_medseq as ms; ms.read; ms.ImageSequence; ms.read_study; ms.write")
    assert found & {"torch", "monai", "napari", "qtpy", "PySide6", "matplotlib"} == set()


def test_every_public_name_is_there_and_listed() -> None:
    assert {"read", "segment", "track", "run"} <= set(ms.__all__)
    for name in ms.__all__:
        assert getattr(ms, name) is not None, name
        assert name in dir(ms)
    with pytest.raises(AttributeError, match="no_such_verb"):
        getattr(ms, "no_such_verb")  # noqa: B009 - as a typo at run time


def test_verbs_are_functions_and_packages_are_nouns() -> None:
    for name in ("register", "preprocess", "evaluate", "segment", "train", "teach", "track", "run"):
        assert inspect.isfunction(getattr(ms, name)), name
        assert not (SOURCE / name).exists(), name


#: verbs that take neither `progress` nor `cancelled`: they answer at once, or (export, write) are still to learn it
UNWATCHED = {"export", "list_models", "load_model", "write"}
VERBS = sorted(name for name in ms.__all__ if inspect.isfunction(getattr(ms, name)))


@pytest.mark.parametrize("verb", VERBS)
def test_every_long_verb_can_be_watched_and_stopped(verb: str) -> None:
    parameters = inspect.signature(getattr(ms, verb)).parameters
    watched = {"progress", "cancelled"} & set(parameters)
    assert watched == (set() if verb in UNWATCHED else {"progress", "cancelled"})
    for name in watched:
        assert parameters[name].default is None
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_documented_parameter_by_parameter(verb: str) -> None:
    function = getattr(ms, verb)
    text = inspect.getdoc(function) or ""
    listed = text.partition("Parameters\n----------\n")[2]
    for name in set(inspect.signature(function).parameters) - {"progress", "cancelled"}:
        assert re.search(rf"^(\w+, )*{name}(, \w+)* ?(:|$)", listed, re.MULTILINE), (
            f"{verb} does not say what {name} is"
        )


#: uses of the word in 1000 lines of source, imports and blank lines counted
ANY_LIMIT = 6.0


def test_few_values_are_typed_any() -> None:
    texts = [p.read_text(encoding="utf-8") for p in [*MODULES, *SOURCE.rglob("*.pyi")]]
    lines = sum(len(t.splitlines()) for t in texts)
    uses = sum(len(re.findall(r"\bAny\b", t)) for t in texts)
    assert 1000 * uses / lines <= ANY_LIMIT, f"{uses} in {lines} lines"


@cache
def parsed() -> dict[str, tuple[str, ast.Module]]:
    """The text and the tree of each module, by name."""
    texts = {names(path): path.read_text(encoding="utf-8") for path in MODULES}
    return {name: (text, ast.parse(text)) for name, text in texts.items()}


def test_modules_are_short_and_say_what_they_are() -> None:
    assert len(parsed()) > 200
    for name, (text, tree) in parsed().items():
        assert len(text.splitlines()) <= 500, f"{name} is too long: one idea per module"
        assert ast.get_docstring(tree), f"{name} has no docstring"
        if tree.body[1:]:
            assert "from __future__ import annotations" in text, name


def _documented(docstring: str, section: str) -> set[str]:
    """The names that a section of a numpydoc docstring describes."""
    _, _, rest = docstring.partition(f"{section}\n{'-' * len(section)}\n")
    body = re.split(r"\n\w[\w ]*\n-{4,}", rest)[0]
    headings = [line.partition(" : ")[0] for line in body.split("\n") if line and not line.startswith(" ")]
    return {name.strip(" *`") for heading in headings for name in heading.split(",")}


def test_parameters_that_are_described_are_all_those_that_there_are() -> None:
    wrong = []
    for module, (_, tree) in parsed().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and "Parameters\n---" in (text := ast.get_docstring(node) or ""):
                a = node.args
                names = {x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg) if x is not None}
                described = _documented(text, "Parameters")
                missing = set() if node.name.startswith("_") else names - described - _NEED_NO_WORDS
                wrong += [f"{module}.{node.name}: {name}" for name in sorted((described - names) | missing)]
    assert wrong == []


def test_no_item_of_a_docstring_runs_into_the_one_before() -> None:
    texts = {f"{module}: {text}" for module, (text, _) in parsed().items()}
    assert [
        found[0] for text in texts if (found := re.search(r"^ {8,}[^#\n\"]*\. \w+ : \w.*$", text, re.MULTILINE))
    ] == []


def test_what_is_raised_by_name_belongs_to_one_family() -> None:
    """Failures that a user can meet are `MedseqError`s; programming protocols have their own few exceptions."""
    family = {n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, errors.MedseqError)}
    protocol = {"AttributeError", "NotImplementedError", "StopIteration", "SystemExit", "KeyboardInterrupt"}
    own = {
        # a worker that is lost is met by the cohort's own loop, which tries again
        "cohort/cluster.py": {"ConnectionError"},
        "cohort/helper.py": {"OSError"},
        # what an array answers to an index that it has not, and to len() of a single voxel
        "unread.py": {"IndexError", "TypeError"},
    }
    # pydantic validators speak ValueError; codecs tell their callers of a cut stream by EOFError
    inner = {"ValueError", "EOFError"}
    for module, (_, tree) in parsed().items():
        allowed = family | protocol | inner | own.get(module, set())
        for node in ast.walk(tree):
            if not isinstance(node, ast.Raise) or node.exc is None:
                continue
            called = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name[:1].isupper():
                assert name in allowed, f"{module}:{node.lineno} raises {name}; use a MedseqError"


def test_every_error_is_of_one_family_and_every_warning_of_another() -> None:
    for name, value in vars(errors).items():
        if isinstance(value, type):
            parent = errors.MedseqWarning if name.endswith("Warning") else errors.MedseqError
            assert issubclass(value, parent), name
            assert value.__doc__, name


def test_doubts_are_issued_in_one_place_which_finds_the_line_of_the_user() -> None:
    for module, (_, tree) in parsed().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and module not in (
                "errors.py",
                "pipeline.py",
            ):  # which passes on what it heard
                assert ast.unparse(node.func) not in ("warnings.warn", "warnings.warn_explicit"), (
                    f"{module}:{node.lineno}: use errors.warn, which points at the line that called into the package"
                )


def test_only_the_gui_package_imports_napari_or_qt_at_module_level() -> None:
    of_windows = {"napari", "qtpy", "magicgui", "PySide6", "PyQt6"}
    for module, (_, tree) in parsed().items():
        if module.startswith("_napari/"):
            continue
        for node in tree.body:
            imported = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                imported = [node.module or ""]
            for name in imported:
                assert name.partition(".")[0] not in of_windows, f"{module} imports {name}"


def test_the_command_and_the_manifest_are_registered() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "BSD-3-Clause"
    assert "Framework :: napari" in project["classifiers"]
    assert project["scripts"] == {"napari-medseq": "napari_medseq.cli:main"}
    assert project["entry-points"]["napari.manifest"] == {"napari-medseq": "napari_medseq:napari.yaml"}
    base = " ".join(project["dependencies"]).lower()
    assert not any(qt in base for qt in ("pyside", "pyqt"))
    assert (ROOT / "napari.yaml").resolve() == (SOURCE / "napari.yaml").resolve()


def test_every_dependency_is_pinned_for_the_two_commands() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    wanted = [
        *project["dependencies"],
        *project["optional-dependencies"]["all"],
        *project["optional-dependencies"]["dev"],
    ]
    missing = {w for w in wanted if not {_bare(w)} <= pins}
    assert missing == set()


def _bare(requirement: str) -> str:
    for mark in "[<>=!~; ":
        requirement = requirement.partition(mark)[0]
    return requirement.lower().replace("_", "-")


def layers() -> list[set[str]]:
    """The rooms, from the top, as import-linter checks them (in `make lint`, a part of `make test`)."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    rows = next(c for c in contracts if c["containers"] == ["napari_medseq"])["layers"]
    return [{room.strip() for room in row.split("|")} for row in rows if row != "__main__"]


def test_contributing_shows_the_layers_that_are_checked() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    picture = " ".join(line for line in text.splitlines() if line.startswith("    "))
    assert [set(row.replace(" ", "").split(",")) for row in picture.split("→")] == layers()


def test_the_page_of_the_architecture_lists_every_room() -> None:
    text = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    listed = [
        room for row in re.findall(r"^\| (`[^|]*`) \|", text, re.MULTILINE) for room in re.findall(r"`(\w+)`", row)
    ]
    assert sorted(listed) == sorted(set().union(*layers()))
