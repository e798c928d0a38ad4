"""The chain: names, settings, files, records, progress, cancel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest
from pydantic import Field

import napari_medseq as ms
from napari_medseq.errors import MedseqWarning, OperationCancelled, SettingsError, WriteError
from napari_medseq.preprocessing import STEPS, Job, Percentile, Resample, Step, ZScore, load, parse, save
from napari_medseq.preprocessing.pipeline import StepLike
from napari_medseq.sequence import ImageSequence, affine_from


def image() -> ImageSequence:
    data = np.random.default_rng(0).gamma(3, 30, (4, 12, 14))
    return ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 3)), name="scan", meta={"source": "here"})


CHAIN: list[StepLike] = [{"kind": "percentile", "upper": 98.0}, "zscore", Resample(spacing=(3, 2, 2))]


def test_the_record_repeats_the_result() -> None:
    found = ms.preprocess(image(), CHAIN)
    assert [s["kind"] for s in found.meta["steps"]] == ["percentile", "zscore", "resample"]
    json.dumps(found.meta["steps"])
    assert np.array_equal(ms.preprocess(image(), found.meta["steps"]).data, found.data)
    assert found.meta["source"] == "here"
    assert "steps" not in image().meta


def test_steps_in_two_calls_are_recorded_as_one_chain() -> None:
    twice = ms.preprocess(ms.preprocess(image(), "percentile"), "zscore")
    once = ms.preprocess(image(), ["percentile", "zscore"])
    assert twice.meta["steps"] == once.meta["steps"]
    assert np.array_equal(twice.data, once.data)
    assert ms.preprocess(image(), []).data is not None


@pytest.mark.parametrize("ending", ["yaml", "yml", "json"])
def test_a_chain_survives_its_file(tmp_path: Path, ending: str) -> None:
    path = save(CHAIN, tmp_path / f"chain.{ending}")
    assert load(path) == parse(CHAIN)
    assert np.array_equal(ms.preprocess(image(), path).data, ms.preprocess(image(), CHAIN).data)
    assert np.array_equal(ms.preprocess(image(), str(path)).data, ms.preprocess(image(), CHAIN).data)
    assert [f.name for f in tmp_path.iterdir()] == [path.name]


def test_a_plain_list_is_a_pipeline_too(tmp_path: Path) -> None:
    (tmp_path / "short.yaml").write_text("- zscore\n- kind: percentile\n  lower: 1\n")
    assert parse(tmp_path / "short.yaml") == [ZScore(), Percentile(lower=1)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- kind: magic", "magic"),
        ("- nonsense", "nonsense"),
        ("- kind: zscore\n  insid: all", "insid"),
        ("steps: 3", "list of steps"),
        ("[1, 2", "cannot be read as YAML or JSON"),
        ("- 3", "not int"),
        ("- kind: percentile\n  lower: 99\n  upper: 1", "below upper"),
        ("- kind: percentile\n  to: [1, 0]", "must rise"),
        ("- kind: resample\n  spacing: -1", "positive"),
        ("- kind: window", "either a preset"),
        ("- kind: window\n  preset: knee", "knee"),
        ("- kind: window\n  level: 3", "together"),
        ("- window", "needs a preset"),
        ("- window:knee", "needs a preset"),
        ("- kind: n4\n  shrink: 0", "shrink"),
        ("!!python/object/apply:os.system ['true']", "cannot be read as YAML"),
    ],
)
def test_a_bad_file_says_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "chain.yaml").write_text(text)
    with pytest.raises(SettingsError, match=words):
        load(tmp_path / "chain.yaml")


def test_missing_and_unwritable_files(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is not a file; name a YAML or JSON file"):
        ms.preprocess(image(), tmp_path / "none.yaml")
    with pytest.raises(SettingsError, match="is not a file; name a YAML or JSON file"):
        ms.preprocess(image(), "none.json")
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="could not be written"):
        save(CHAIN, tmp_path / "file" / "chain.yaml")


def test_progress_runs_through_all_steps_and_cancel_stops() -> None:
    frames = ImageSequence(np.random.default_rng(0).random((3, 2, 8, 8)), ("t", "z", "y", "x"), affine_from((1, 1, 3)))
    seen: list[float] = []
    ms.preprocess(frames, ["percentile", "zscore"], progress=lambda done, total, _: seen.append(done / total))
    assert len(set(seen)) > 4
    assert seen == sorted(seen)
    assert seen[-1] == 1
    with pytest.raises(OperationCancelled):
        ms.preprocess(frames, "zscore", cancelled=lambda: True)


def test_every_name_builds_and_every_step_has_a_title_and_says_whether_it_takes_labels() -> None:
    assert set(STEPS) >= {"n4", "zscore", "window", "percentile", "resample", "register", "motion", "crop"}
    for name, step in STEPS.items():
        assert step.title
        assert step.takes_labels == (name in ("resample", "crop", "register", "region", "reorient", "slices"))
        if name != "window":
            assert type(parse(name)[0]) is step


class Gamma(Step):
    """Raise intensities to a power."""

    title: ClassVar[str] = "gamma"
    kind: Literal["gamma"] = "gamma"
    power: float = Field(2.0, gt=0)

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        job.doubts.append("gamma changes contrasts")
        return job.map(seq, lambda volume: job.finite(volume, seq.name) ** self.power)


def test_a_step_of_ones_own_runs_by_name_from_a_file_and_beside_the_others(tmp_path: Path) -> None:
    chain = save(["zscore", Gamma(power=3), "gamma"], tmp_path / "chain.yaml")
    with pytest.warns(MedseqWarning, match="gamma changes contrasts"):
        result = ms.preprocess(image(), chain)
    assert np.allclose(result.data, (ms.preprocess(image(), "zscore").data ** 3) ** 2, rtol=1e-4)
    assert [s["kind"] for s in result.meta["steps"]] == ["zscore", "gamma", "gamma"]
    assert "gamma changes contrasts" in result.warnings
    with pytest.raises(SettingsError, match=r"preprocessing step 'gamma': power = -1: input should be greater than 0"):
        ms.preprocess(image(), {"kind": "gamma", "power": -1})
    with pytest.raises(SettingsError, match="gamma is for images"):
        ms.preprocess(image().labels_like(np.ones(image().data.shape, int), name="m", label_names={}), "gamma")


def test_two_steps_of_one_kind_are_refused() -> None:
    with pytest.raises(SettingsError, match="'zscore' already"):

        class Mine(Step):
            kind: Literal["zscore"] = "zscore"

    assert STEPS["zscore"].__name__ == "ZScore"


def test_lazy_voxels_are_taken() -> None:
    import dask.array as da

    lazy = image().replace(data=da.from_array(image().data, chunks=(1, 12, 14)))
    assert np.allclose(ms.preprocess(lazy, CHAIN).data, ms.preprocess(image(), CHAIN).data)


def test_a_bare_name_has_the_settings_usual_for_the_modality() -> None:
    assert parse("window", modality="CT") == parse("window:soft tissue")
    assert parse("difference", modality="CT") != parse("difference", modality="MR")
    assert parse({"kind": "difference"}, modality="CT") == parse("difference")
    assert ms.preprocess(image().replace(modality="CT"), "window").meta["steps"][0]["preset"] == "soft tissue"
