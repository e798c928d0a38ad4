"""Every step on every kind of sequence: it works, or says in one clear sentence why not; and never changes what it was given."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import dask.array as da
import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq.errors import MedseqError
from napari_medseq.preprocessing import STEPS, learn_landmarks, parse, preview
from napari_medseq.sequence import ImageSequence
from tests.unit.preprocessing.scans import flat, mask, scan, series

Settings = dict[str, object]

#: settings where the defaults do not suffice, or would take long
GIVEN: dict[str, Settings] = {
    "window": {"level": 80, "width": 160},
    "n4": {"shrink": 1, "iterations": (3,)},
    "n3": {"iterations": 5},
    "resample": {"spacing": (3, 2, 2)},
    "region": {"box_mm": ((5, 15), (-45, -35), (40, 60)), "margin_mm": 2},
    "nyul": {"landmarks": learn_landmarks([scan()])},
    "nlm": {"patch": 3, "distance": 2},
    "temporal": {"width_s": 1.0},
    "register": {"transform": "translation", "resample": False},
    "motion": {"transform": "translation"},
    "brain": {"open_mm": 1.0},
}
KINDS = [k for k, s in STEPS.items() if s.__module__.startswith("napari_medseq.preprocessing.")]


def oblique() -> ImageSequence:
    angle = np.deg2rad(25)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    middle = scan().affine @ [11.5, 9.5, 2.5, 1]
    back, there = np.eye(4), np.eye(4)
    back[:3, 3], there[:3, 3] = -middle[:3], middle[:3]
    return scan().replace(affine=there @ turn @ back @ scan().affine)


def lazy() -> ImageSequence:
    return series().replace(data=da.from_array(series().data, chunks=(1, 2, 20, 24)))


def colour() -> ImageSequence:
    data = np.clip(np.stack([scan(k).data for k in range(3)], axis=-1), 0, 255).astype(np.uint8)
    return scan().replace(data=data, axes=("z", "y", "x", "c"))


SEQUENCES: dict[str, Callable[[], ImageSequence]] = {
    "2D": lambda: flat(scan()),
    "3D": scan,
    "4D": series,
    "oblique": oblique,
    "lazy": lazy,
    "unoriented": lambda: scan(oriented=False),
    "sagittal": lambda: scan(slice_axis="x"),
    "colour": colour,
}
#: (step, kind of sequence) → what the one sentence says; everything else works
REFUSED: dict[tuple[str, str], str] = {
    ("temporal", "2D"): "needs frames",
    ("temporal", "3D"): "needs frames",
    ("temporal", "oblique"): "needs frames",
    ("temporal", "unoriented"): "needs frames",
    ("temporal", "sagittal"): "needs frames",
    ("temporal", "colour"): "needs frames",
    ("reorient", "unoriented"): "cannot be turned",
    ("slices", "2D"): "no slices to choose among",
    ("gabor", "sagittal"): "finer than its pixels of 4 mm",
    ("tissue", "colour"): "in colour",
    ("brain", "colour"): "in colour",
    **{("baseline", k): "needs frames" for k in ("2D", "3D", "oblique", "unoriented", "sagittal", "colour")},
    **{("motion", k): "'t'" for k in ("2D", "3D", "oblique", "unoriented", "sagittal", "colour")},
}


def chain(kind: str) -> list[Settings]:
    return [{"kind": kind, **GIVEN.get(kind, {})}]


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("register", "motion")])
def test_it_works_or_says_why_not(kind: str, name: str) -> None:
    seq = SEQUENCES[name]()
    before = np.asarray(seq.data).copy()
    reference = scan(1).replace(affine=seq.affine, name="earlier") if kind in ("difference", "register") else None
    if kind == "difference" and name in ("2D", "colour"):
        reference = SEQUENCES[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if (kind, name) in REFUSED:
            with pytest.raises(MedseqError, match=REFUSED[kind, name]) as caught:
                ms.preprocess(seq, chain(kind), reference=reference)
            assert seq.name in str(caught.value)
            return
        found = ms.preprocess(seq, chain(kind), reference=reference)
        shown = preview(seq, chain(kind), reference=reference)
    assert found.axes == (tuple(a for a in seq.axes if a != "c") if found.kind == "labels" else seq.axes)
    assert found.data.shape == tuple(found.size(a) for a in found.axes)
    assert np.isfinite(np.asarray(found.data)).all()
    assert found.oriented == seq.oriented
    assert found.meta["steps"][0]["kind"] == kind
    assert np.array_equal(np.asarray(seq.data), before)
    assert shown.after.kind == found.kind
    if name == "lazy":
        eager = ms.preprocess(seq.compute(), chain(kind), reference=reference)
        assert np.allclose(np.asarray(found.data), eager.data, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in SEQUENCES if ("motion", n) in REFUSED])
def test_motion_needs_frames(name: str) -> None:
    with pytest.raises(MedseqError, match="'t'"):
        ms.preprocess(SEQUENCES[name](), "motion")


@pytest.mark.parametrize("name", ["2D", "colour"])
def test_registration_of_what_has_no_volume_is_refused(name: str) -> None:
    with pytest.raises(MedseqError) as caught:
        ms.preprocess(SEQUENCES[name](), chain("register"), reference=scan(1))
    assert "scan" in str(caught.value)


@pytest.mark.parametrize("kind", [k for k in KINDS if not STEPS[k].takes_labels and k not in GIVEN])
def test_labels_are_refused_where_values_would_be_mixed(kind: str) -> None:
    with pytest.raises(MedseqError, match="holds labels"):
        ms.preprocess(mask(), [{"kind": kind}])


@pytest.mark.parametrize("kind", KINDS)
def test_its_record_repeats_it(kind: str) -> None:
    step = parse(chain(kind))[0]
    assert parse([step.model_dump(mode="json")]) == [step]
