"""Nyúl's standardisation against the published algorithm written with scipy; N3 against a known drift and against N4."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import interp1d

import napari_medseq as ms
from napari_medseq.errors import MedseqError, MedseqWarning, OperationCancelled, SettingsError
from napari_medseq.preprocessing import N3, Landmarks, Nyul, learn_landmarks, load, save
from napari_medseq.preprocessing.n3 import sharpened
from napari_medseq.preprocessing.nyul import PERCENTILES, landmarks_of
from napari_medseq.sequence import ImageSequence
from tests.unit.preprocessing.scans import drifting, scan, series


def scans() -> list[ImageSequence]:
    found = []
    for k in range(4):
        data = scan(k).data ** (1 + 0.1 * k) * (1 + k) + 10 * k
        found.append(scan().replace(data=data, name=f"scan {k}"))
    return found


def test_the_scale_and_the_mapping_are_those_of_the_papers() -> None:
    """As in intensity-normalization and torchio: mean of the linearly mapped landmarks; interp1d with extrapolation."""
    learnt = learn_landmarks(scans(), inside="all")
    rows = []
    for image in scans():
        own = np.percentile(image.data, PERCENTILES)
        rows.append(interp1d((own[0], own[-1]), (0, 100))(own))
    assert np.allclose(learnt.values, np.mean(rows, axis=0), atol=1e-6)
    assert learnt.scans == 4
    for image in scans():
        own = np.percentile(image.data, PERCENTILES)
        expected = interp1d(own, learnt.values, fill_value="extrapolate")(image.data)
        assert np.allclose(ms.preprocess(image, Nyul(landmarks=learnt)).data, expected, atol=1e-2)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 500), st.floats(-1000, 1000))
def test_scans_that_differ_in_scale_and_offset_become_one(scale: float, offset: float) -> None:
    learnt = learn_landmarks([scan(0)], inside="all")
    other = scan(0).replace(data=scan(0).data.astype(np.float64) * scale + offset)
    same = [ms.preprocess(s, Nyul(landmarks=learnt)).data for s in (scan(0), other)]
    assert np.allclose(same[0], same[1], atol=0.05)


def test_standardised_landmarks_lie_where_the_scale_has_them() -> None:
    learnt = learn_landmarks(scans())
    for image in [*scans(), series()]:
        found = ms.preprocess(image, Nyul(landmarks=learnt))
        inside = learn_landmarks([image])
        assert inside.percentiles == learnt.percentiles
        if "t" not in image.axes:
            assert np.allclose(landmarks_of(found), learnt.values, atol=1.5)
        assert found.axes == image.axes


def test_landmarks_survive_their_file_and_stand_in_the_recipe(tmp_path: Path) -> None:
    learnt = learn_landmarks(scans())
    path = learnt.save(tmp_path / "t1.json")
    assert Landmarks.load(path) == learnt
    named = [{"kind": "nyul", "landmarks": str(path)}]
    found = ms.preprocess(scan(), named)
    chain = save(named, tmp_path / "chain.yaml")
    path.unlink()
    assert load(chain) == [Nyul(landmarks=learnt)]
    assert np.array_equal(ms.preprocess(scan(), found.meta["steps"]).data, found.data)


@pytest.mark.parametrize(
    "record",
    [
        "[]",
        "not json",
        json.dumps({"percentiles": [1, 99], "values": [0]}),
        json.dumps({"percentiles": [1, 99], "values": [5, 5]}),
        json.dumps({"percentiles": [1, 990], "values": [0, 100]}),
    ],
)
def test_a_file_that_is_no_scale_is_refused(tmp_path: Path, record: str) -> None:
    (tmp_path / "bad.json").write_text(record)
    with pytest.raises(SettingsError):
        Landmarks.load(tmp_path / "bad.json")
    with pytest.raises(SettingsError):
        ms.preprocess(scan(), [{"kind": "nyul", "landmarks": str(tmp_path / "bad.json")}])


def test_what_cannot_be_standardised_is_said() -> None:
    with pytest.raises(SettingsError, match="needs landmarks"):
        ms.preprocess(scan(), "nyul")
    with pytest.raises(MedseqError, match="no scan"):
        learn_landmarks([])
    even = scan().replace(data=np.full(scan().data.shape, 3.0))
    with pytest.raises(MedseqError, match="no range"):
        learn_landmarks([even])
    learnt = learn_landmarks(scans())
    with pytest.raises(MedseqError, match="no range"):
        ms.preprocess(even, Nyul(landmarks=learnt))
    with pytest.warns(MedseqWarning, match="Hounsfield"):
        ms.preprocess(scan(modality="CT"), Nyul(landmarks=learnt))
    steps = scan().replace(data=np.where(scan().data > 50, 100.0, np.arange(24) % 3))
    with pytest.warns(MedseqWarning, match="coincide"):
        assert np.isfinite(ms.preprocess(steps, Nyul(landmarks=learn_landmarks(scans(), inside="all"))).data).all()
    with pytest.raises(OperationCancelled):
        learn_landmarks(scans(), cancelled=lambda: True)


# -- N3 ---------------------------------------------------------------------------------------------------------------


def test_n3_takes_away_a_known_drift_as_n4_does() -> None:
    image, drift, inside = drifting()

    def rest(result: ImageSequence) -> float:
        """Spread of what is left of the drift, as a share of the spread that was there."""
        left = np.log(result.data[inside] / image.data[inside] * drift[inside])
        return float(left.std() / np.log(drift[inside]).std())

    ours, n4 = ms.preprocess(image, "n3"), ms.preprocess(image, {"kind": "n4", "shrink": 2})
    assert rest(ours) < 0.2
    assert rest(ours) < rest(n4) + 0.1
    field = {k: np.log(image.data[inside] / r.data[inside]) for k, r in {"n3": ours, "n4": n4}.items()}
    assert np.corrcoef(field["n3"], field["n4"])[0, 1] > 0.95
    assert ours.data[inside].mean() == pytest.approx(image.data[inside].mean(), rel=0.03)
    assert np.array_equal(ms.preprocess(image, "n3").data, ours.data)


def test_sharpening_draws_two_blurred_tissues_to_their_values() -> None:
    rng = np.random.default_rng(0)
    sigma = 0.15 / np.sqrt(8 * np.log(2))
    tissue = np.where(rng.random(40_000) < 0.4, 4.0, 5.0)
    found = sharpened(tissue + rng.normal(0, sigma, tissue.size), 0.15)
    for value in (4.0, 5.0):
        assert abs(found[tissue == value].mean() - value) < 0.01
        assert found[tissue == value].std() < 0.7 * sigma
    even = np.full(10, 3.0)
    assert np.array_equal(sharpened(even, 0.15), even)


def test_n3_says_what_it_cannot_do() -> None:
    with pytest.raises(MedseqError, match="logarithms"):
        ms.preprocess(scan().replace(data=scan().data - 500), "n3")
    with pytest.warns(MedseqWarning, match="still changed"):
        ms.preprocess(drifting()[0], N3(iterations=1))
    with pytest.warns(MedseqWarning, match="constant"):
        ms.preprocess(scan().replace(data=np.full(scan().data.shape, 7.0)), "n3")


@pytest.mark.parametrize("step", ["n3", "n4"])
def test_a_bias_field_in_ct_is_doubted(step: str) -> None:
    with pytest.warns(MedseqWarning, match="made for MR"):
        ms.preprocess(drifting()[0].replace(modality="CT"), step)
