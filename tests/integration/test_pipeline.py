"""The main job from folder to result tree, with a segmenter that is right by construction, and with the real engine."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

import napari_medseq as ms
from napari_medseq import cli, pipeline
from napari_medseq.errors import (
    MedseqError,
    MedseqWarning,
    ModelError,
    OperationCancelled,
    ReadError,
    SettingsError,
    WriteError,
)
from napari_medseq.models import ModelInfo
from napari_medseq.sequence import ImageSequence, Study, Visit, affine_from
from tests.balls import AFFINES, ball_image, write_ball_study
from tests.narrowing import some

INFO = ModelInfo(
    name="m", version="1", task="segmentation", modality="MR", name_patterns=("*T1post*",), channels=("T1post",)
)


def an_image(name: str, modality: str | None = "MR", **changes: Any) -> ImageSequence:
    fields: dict[str, Any] = {
        "data": np.zeros((3, 4, 5), np.int16),
        "axes": ("z", "y", "x"),
        "affine": affine_from((1, 1, 1)),
    }
    return ImageSequence(**{**fields, "name": name, "modality": modality, **changes})


def a_study(*visits: list[ImageSequence]) -> Study:
    days = [date(2020, 1, 1 + n) for n in range(len(visits))]
    return Study("s", tuple(Visit(d, tuple(i), (), f"v{n}") for n, (d, i) in enumerate(zip(days, visits, strict=True))))


# -- the whole job ---------------------------------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")
def test_run_writes_the_tree_and_follows_the_balls(ball_study: Path, bright_bundle: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    out = tmp_path / "result"
    progression = ms.run(ball_study, bright_bundle, out=out, progress=lambda *a: told.append(a))

    events = {(r.visit, r.lesion): r.event for r in progression.lesions.itertuples()}
    assert events == {
        (0, 1): "baseline",
        (0, 2): "baseline",
        (1, 1): "growing",
        (1, 2): "resolved",
        (1, 3): "new",
    }
    files = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    assert files == [
        "lesions.csv",
        "progression.png",
        "run.json",
        "ses-20200131/sub-x_T1post_lesions.nii.gz",
        "ses-20200504/sub-x_T1post_lesions.nii.gz",
        "summary.csv",
    ]
    # labels are on each input's own grid, in the file's own orientation, and hold the balls
    for visit, day in enumerate(("20200131", "20200504")):
        written: Any = nib.load(out / f"ses-{day}" / "sub-x_T1post_lesions.nii.gz")
        np.testing.assert_allclose(written.affine, AFFINES[visit], atol=1e-4)
        np.testing.assert_array_equal(np.asarray(written.dataobj) > 0, ball_image(visit)[1])
    # progress goes up to the end
    shares = [done / total for done, total, _ in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    # volumes are those of the mask
    volumes = pd.read_csv(out / "lesions.csv").query("visit == 1 and volume_ml > 0")["volume_ml"]
    assert volumes.sum() == pytest.approx(ball_image(1)[1].sum() * 12 / 1000, rel=1e-6)


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")
def test_a_failing_run_leaves_no_older_result_that_looks_like_its_own(
    ball_study: Path, bright_bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ms.run(ball_study, bright_bundle, out=out, register="none")
    older = {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with pytest.raises(OperationCancelled):
        ms.run(ball_study, bright_bundle, out=out, register="none", cancelled=lambda: True)
    assert {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()} == older
    with pytest.raises(ReadError, match="does not exist"):
        ms.run(tmp_path / "gone", bright_bundle, out=out, register="none")
    assert sorted(p.name for p in out.iterdir()) == ["failed.json", "previous"]
    assert "does not exist" in json.loads((out / "failed.json").read_text())["error"]
    assert {
        p.relative_to(out / "previous"): p.read_bytes() for p in (out / "previous").rglob("*") if p.is_file()
    } == older
    ms.run(ball_study, bright_bundle, out=out, register="none")
    assert {p.relative_to(out) for p in out.rglob("*") if p.is_file()} == set(older)


def test_a_visit_that_cannot_be_read_is_said_in_record_and_exit_status(
    bright_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_ball_study(tmp_path / "sub-x", masks=False)
    damaged = study / "ses-20200504" / "sub-x_T1post.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:200])
    with pytest.warns(MedseqWarning, match="1 visit left out: ses-20200504"):
        progression = ms.run(study, bright_bundle, out=tmp_path / "a", register="none")
    assert len(progression.dates) == 1
    (dropped,) = json.loads((tmp_path / "a" / "run.json").read_text())["dropped"]
    assert dropped.startswith("ses-20200504: ")
    status = cli.main(["run", str(study), "-m", str(bright_bundle), "-o", str(tmp_path / "b"), "--register", "none"])
    assert status == 1
    assert "lacks 1 of the study's visits: ses-20200504" in capsys.readouterr().err
    assert (tmp_path / "b" / "run.json").is_file()


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")
def test_where_a_result_comes_from_is_kept_when_it_is_followed_again_and_saved(
    ball_study: Path, bright_bundle: Path, tmp_path: Path
) -> None:
    ms.run(ball_study, bright_bundle, out=tmp_path / "a", register="none")
    first = ms.Progression.load(tmp_path / "a")
    first.exclude(2)
    first.save(tmp_path / "b")
    loaded = ms.Progression.load(tmp_path / "b")
    assert loaded.corrections == ["exclude lesion 2"]
    painted = ms.track(loaded.labels, dates=loaded.dates)
    assert painted.reapply_corrections(loaded, exclusions=False) == []
    painted.save(tmp_path / "c")
    before, after = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("a", "c"))
    assert {k: after[k] for k in ("run", "inputs", "model")} == {k: before[k] for k in ("run", "inputs", "model")}
    assert [c["text"] for c in after["corrections"]] == ["exclude lesion 2"]
    # on a new segmentation the correction of the loaded result is made again
    again = ms.track(ms.Progression.load(tmp_path / "a").labels, dates=loaded.dates)
    kept = ms.Progression.load(tmp_path / "c")
    assert again.reapply_corrections(kept) == []
    columns = ["visit", "lesion", "volume_ml"]
    pd.testing.assert_frame_equal(again.lesions[columns], kept.lesions[columns])


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")
def test_the_record_says_what_is_needed_to_do_it_again(ball_study: Path, bright_bundle: Path, tmp_path: Path) -> None:
    from napari_medseq.record import sha256

    ms.run(
        ball_study,
        bright_bundle,
        out=tmp_path / "a",
        series="*T1post",
        settings={"min_volume_ml": 0.02},
        register="none",
    )
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    source = ball_study / "ses-20200131" / "sub-x_T1post.nii.gz"
    assert record["inputs"][0]["images"]["T1post"]["sha256"] == sha256(source)
    assert record["inputs"][0]["date"] == "2020-01-31"
    assert record["model"]["name"] == "tiny"
    assert len(record["model"]["sha256"]) == 64
    assert record["run"]["settings"]["min_volume_ml"] == 0.02
    assert record["versions"]["numpy"] == np.__version__
    call = record["run"]
    again = ms.run(
        call["study"],
        call["model"],
        **{k: call[k] for k in ("series", "register", "device", "settings", "force")},
        out=tmp_path / "b",
    )
    pd.testing.assert_frame_equal(again.lesions, ms.Progression.load(tmp_path / "a").lesions, check_dtype=False)
    first, second = (json.loads((tmp_path / x / "run.json").read_text()) for x in "ab")
    assert [v["sha256"] for v in first["visits"]] == [v["sha256"] for v in second["visits"]]


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")
def test_run_uses_the_real_engine_and_gives_the_same_twice(ball_study: Path, tiny_bundle: Path) -> None:
    study = ms.read_study(ball_study)
    model = ms.load_model(tiny_bundle)
    chosen = pipeline.choose_images(study, model.info)
    pieces = [f.labels for f in pipeline.segment_visits(chosen, model)]
    whole = ms.run(study, model, register="none")
    for ours, mask, choice in zip(whole.labels, pieces, chosen, strict=True):
        assert some(ours).same_grid(choice.image)
        np.testing.assert_array_equal(np.asarray(some(ours).data) > 0, np.asarray(mask.data) > 0)


def test_cancel_stops_and_writes_nothing(ball_study: Path, bright_bundle: Path, tmp_path: Path) -> None:
    calls = [0]

    def after(n: int) -> Callable[[], bool]:
        def cancelled() -> bool:
            calls[0] += 1
            return calls[0] > n

        return cancelled

    for n in (0, 3):
        calls[0] = 0
        with pytest.raises(OperationCancelled):
            ms.run(ball_study, bright_bundle, out=tmp_path / "never", cancelled=after(n))
    assert not (tmp_path / "never").exists()


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")
def test_a_folder_that_cannot_be_written_is_one_clear_error(
    ball_study: Path, bright_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match="file"):
        ms.run(ball_study, bright_bundle, out=tmp_path / "file" / "result", register="none")


# -- which image -----------------------------------------------------------------------------------------------------
def test_the_card_picks_the_image_and_never_a_mask(ball_study: Path) -> None:
    chosen = pipeline.choose_images(ms.read_study(ball_study), INFO)
    assert [c.image.name for c in chosen] == ["sub-x_T1post"] * 2
    assert all(c.image.kind == "image" for c in chosen)


def test_two_candidates_are_a_question_that_lists_them() -> None:
    study = a_study([an_image("a_T1post"), an_image("b_T1post"), an_image("FLAIR")])
    with pytest.raises(ModelError, match=r"a_T1post, b_T1post.*series="):
        pipeline.choose_images(study, INFO)
    assert pipeline.choose_images(study, INFO, series="B_*")[0].image.name == "b_T1post"
    assert pipeline.choose_images(study, INFO, series=["x*", "a_*"])[0].image.name == "a_T1post"


def test_no_image_of_that_name_is_a_question_that_lists_the_choices() -> None:
    study = a_study([an_image("FLAIR"), an_image("T2")])
    with pytest.raises(ModelError, match=r"FLAIR, T2.*series="):
        pipeline.choose_images(study, INFO)


def test_the_only_image_that_fits_is_taken_with_a_word() -> None:
    study = a_study([an_image("scan"), an_image("planning", "CT")])
    with pytest.warns(MedseqWarning, match="only image that fits"):
        assert pipeline.choose_images(study, INFO)[0].image.name == "scan"


def test_a_known_other_modality_is_refused_unless_forced() -> None:
    study = a_study([an_image("x_T1post", "CT")])
    with pytest.raises(ModelError, match="trained on MR"):
        pipeline.choose_images(study, INFO)
    assert pipeline.choose_images(study, INFO, force=True)[0].image.name == "x_T1post"


def test_a_visit_without_images_is_left_out_with_a_word() -> None:
    study = a_study([an_image("T1post")], [])
    with pytest.warns(MedseqWarning, match=r"visit 2 .* left out"):
        assert len(pipeline.choose_images(study, INFO)) == 1


def test_nothing_to_look_at_is_an_error() -> None:
    with pytest.warns(MedseqWarning), pytest.raises(ReadError, match="no visit has an image"):
        pipeline.choose_images(a_study([], []), INFO)


def test_channels_are_found_by_their_names() -> None:
    info = INFO.model_copy(update={"channels": ("T1post", "FLAIR"), "name_patterns": ()})
    study = a_study([an_image("p_FLAIR"), an_image("p_T1post"), an_image("p_T2")])
    chosen = pipeline.choose_images(study, info)[0]
    assert {c: i.name for c, i in chosen.channels.items()} == {"T1post": "p_T1post", "FLAIR": "p_FLAIR"}
    assert chosen.images == chosen.channels
    assert chosen.image.name == "p_T1post"
    with pytest.raises(ModelError, match=r"channel 'FLAIR'"):
        pipeline.choose_images(a_study([an_image("p_T1post")]), info)


def test_channels_without_a_name_are_found_by_their_modality() -> None:
    """As series of DICOM are: what a scanner calls them says little, and a PET series is often called "PET-CT"."""
    info = INFO.model_copy(update={"channels": ("CT", "PET"), "name_patterns": (), "modality": None})
    study = a_study([an_image("PET-CT body", "PT"), an_image("body 3.0", "CT"), an_image("T1", "MR")])
    chosen = pipeline.choose_images(study, info)[0]
    assert [(c, i.name) for c, i in chosen.channels.items()] == [("CT", "body 3.0"), ("PET", "PET-CT body")]
    with pytest.raises(ModelError, match="channel 'CT'"):
        pipeline.choose_images(a_study([an_image("a", "CT"), an_image("b", "CT"), an_image("c", "PT")]), info)


def test_a_classification_model_cannot_follow_lesions() -> None:
    with pytest.raises(ModelError, match="segmentation"):
        pipeline.choose_images(a_study([an_image("a")]), INFO.model_copy(update={"task": "classification"}))


# -- bad input -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("settings", [{"min_volume_ml": -1}, {"no_such": 1}, 7])
def test_settings_that_cannot_be_used_are_refused_before_any_work(settings: Any, tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        ms.run(tmp_path, "no-model", settings=settings)


def test_a_missing_folder_and_an_empty_one_are_said(tmp_path: Path, tiny_bundle: Path) -> None:
    with pytest.raises(ReadError, match="does not exist"):
        ms.run(tmp_path / "nowhere", tiny_bundle)
    with pytest.raises(ReadError, match="no image"):
        ms.run(tmp_path, tiny_bundle)


def test_an_unknown_model_is_said(ball_study: Path) -> None:
    with pytest.raises(ModelError, match="no model 'nope'"):
        ms.run(ball_study, "nope")


def test_a_device_that_is_not_there_is_said(ball_study: Path, tiny_bundle: Path) -> None:
    with pytest.raises(MedseqError, match="cuda:99"):
        ms.run(ball_study, tiny_bundle, device="cuda:99")


def test_visits_that_share_no_space_are_refused(tmp_path: Path, bright_bundle: Path) -> None:
    folder = write_ball_study(tmp_path / "sub-y", masks=False)
    far = folder / "ses-20200504" / "sub-x_T1post.nii.gz"
    image: Any = nib.load(far)
    affine = image.affine.copy()
    affine[:3, 3] += 5000
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), far)
    with pytest.raises(MedseqError, match=r"overlap|space"):
        ms.run(folder, bright_bundle, register="none")


def test_nothing_that_is_written_holds_the_true_dates_where_they_are_shifted(
    ball_study: Path, bright_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAPARI_MEDSEQ_PSEUDONYMS", str(tmp_path / "a.key"))
    true = ms.run(ball_study, bright_bundle, out=tmp_path / "true")
    shifted = ms.run(ball_study, bright_bundle, out=tmp_path / "shifted", shift_dates=True)
    shifted.report(tmp_path / "shifted" / "report.html")
    days = [[(b - a).days for a, b in itertools.pairwise(p.dates) if a and b] for p in (true, shifted)]
    assert days[0] == days[1] != []
    assert true.lesions["volume_ml"].tolist() == shifted.lesions["volume_ml"].tolist()
    known = {f"{d:%Y%m%d}" for d in true.dates if d} | {str(d) for d in true.dates if d}
    assert known & {p.name.removeprefix("ses-") for p in (tmp_path / "true").iterdir()}, "the true dates would be seen"
    for file in (p for p in (tmp_path / "shifted").rglob("*") if p.is_file()):
        content = file.read_bytes()
        content = gzip.decompress(content) if file.suffix == ".gz" else content
        assert not [d for d in known if d in str(file.relative_to(tmp_path)) or d.encode() in content], file
    with pytest.raises(SettingsError, match="shift_dates"):
        ms.run(ms.read_study(ball_study), bright_bundle, shift_dates=True)
