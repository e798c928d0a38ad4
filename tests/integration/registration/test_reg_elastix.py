"""elastix as the other search: the same answer as our own on a known motion, the same refusals."""

from __future__ import annotations

import importlib
import importlib.util

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq.errors import RegistrationError
from tests.unit.registration.phantom import motion, phantom, seen_through, target_error

REAL = motion((4, -5, 6), (5, -4, 6))
installed = pytest.mark.skipif(importlib.util.find_spec("itk") is None, reason="itk-elastix is not installed")


@installed
def test_finds_a_known_motion() -> None:
    fixed = phantom()
    found = ms.register(seen_through(fixed, REAL), fixed, backend="elastix")
    assert target_error(found.linear, REAL) < 1.5
    assert found.quality.trustworthy
    assert found.quality.mi_after > found.quality.mi_before
    assert 0 < found.quality.error_mm < 2


@installed
def test_bends_as_a_spline_of_ours() -> None:
    fixed = phantom()
    stretched = seen_through(fixed, motion((0, 0, 3), (2, 0, 0), 1.03))
    found = ms.register(stretched, fixed, kind="deformable", backend="elastix")
    assert found.kind == "deformable"
    assert found.quality.folded == 0
    points = fixed.affine @ np.array([[20, 30, 40], [30, 32, 20], [16, 14, 18], [1, 1, 1]], float)
    wanted = motion((0, 0, 3), (2, 0, 0), 1.03) @ points
    assert np.linalg.norm(found.to_moving(points[:3].T) - wanted[:3].T, axis=1).max() < 2.5


@installed
def test_refuses_what_has_nothing_in_common() -> None:
    fixed = phantom()
    noise = fixed.replace(
        data=np.random.default_rng(0).normal(100, 20, fixed.data.shape).astype(np.float32), name="noise"
    )
    with pytest.raises(RegistrationError):
        ms.register(noise, fixed, backend="elastix")


def test_says_what_to_install_and_which_names_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = phantom()
    with pytest.raises(ms.MedseqError, match="simpleitk, elastix"):
        ms.register(fixed, fixed, backend="ants")
    real = importlib.import_module

    def missing(name: str, package: str | None = None) -> object:
        if name == "itk":
            raise ImportError(name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ms.MedseqError, match=r"napari-medseq\[elastix\]"):
        ms.register(fixed, fixed, backend="elastix")
    flat = fixed.replace(data=fixed.data[16], axes=("y", "x"))
    with pytest.raises(ms.MedseqError, match="volumes"):
        ms.register(flat, flat, backend="elastix")
