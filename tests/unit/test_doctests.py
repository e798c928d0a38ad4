"""The examples in docstrings run as they stand."""

from __future__ import annotations

import doctest
import inspect
from importlib import import_module
from pathlib import Path

import pytest

import napari_medseq

SOURCE = Path(napari_medseq.__file__).parent
EXAMPLES = sorted(p for p in SOURCE.rglob("*.py") if ">>> " in p.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_the_examples_of_a_module_run(path: Path) -> None:
    name = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
    found = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 0
    assert found.failed == 0, "see the output above"


#: verbs whose every example would run a network or a training; the gallery has theirs
SLOW = {
    "classify",
    "compress",
    "explain",
    "export",
    "locate",
    "propagate",
    "retest",
    "run",
    "run_cohort",
    "segment",
    "teach",
    "train",
}


def test_every_public_verb_has_an_example() -> None:
    verbs = {name for name in napari_medseq.__all__ if inspect.isfunction(getattr(napari_medseq, name))}
    without = {name for name in verbs if ">>> " not in (getattr(napari_medseq, name).__doc__ or "")}
    assert without == SLOW & verbs
    gallery = "\n".join(p.read_text(encoding="utf-8") for p in (SOURCE.parents[1] / "examples").glob("*.py"))
    assert {name for name in SLOW - {"compress", "export", "retest"} if f"{name}(" not in gallery} == set()
