"""A progression written and read back: the tree, the tables to the last bit, and refusal of what is broken."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest

import napari_medseq as ms
from napari_medseq.sequence import ImageSequence, affine_from
from tests.narrowing import some
from tests.unit.progression.masks import Box

pytest.importorskip("napari_medseq.io.writing")


def mask(*boxes: Box) -> ImageSequence:
    data = np.zeros((12, 30, 34), np.uint8)
    for z0, z1, y0, y1, x0, x1 in boxes:
        data[z0:z1, y0:y1, x0:x1] = 1
    return ImageSequence(data, ("z", "y", "x"), affine_from((0.9, 0.9, 3), (5, -3, 7)), kind="labels", name="T1 post")


A, B, BRIDGE = (2, 8, 2, 8, 2, 10), (2, 8, 2, 8, 14, 20), (3, 6, 3, 6, 10, 14)


@pytest.fixture
def progression() -> ms.Progression:
    return ms.track(
        [mask(A, B), mask(A, B, BRIDGE), mask(A)], dates=[date(2020, 1, 1), date(2020, 3, 1), date(2020, 4, 2)]
    )


def test_a_saved_progression_holds_these_files(progression: ms.Progression, tmp_path: Path) -> None:
    progression.save(
        tmp_path / "out", extra={"model": "brain-tumor", "warnings": ["dim"], "settings": {"run": {"a": 1}}}
    )
    files = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert files == sorted(
        [f"ses-{d}/T1_post_lesions.nii.gz" for d in ("20200101", "20200301", "20200402")]
        + ["lesions.csv", "summary.csv", "progression.png", "run.json"]
    )
    facts = json.loads((tmp_path / "out" / "run.json").read_text())
    assert facts["model"] == "brain-tumor"
    assert facts["settings"]["track"]["connectivity"] == 26
    assert facts["settings"]["run"] == {"a": 1}
    assert facts["warnings"] == ["dim"]
    assert facts["versions"]["napari-medseq"] == ms.__version__


def test_round_trip(progression: ms.Progression, tmp_path: Path) -> None:
    progression.save(tmp_path)
    again = ms.Progression.load(tmp_path)
    pd.testing.assert_frame_equal(again.lesions, progression.lesions, check_dtype=False)
    pd.testing.assert_frame_equal(again.summary, progression.summary, check_dtype=False)
    for one, other in zip(again.labels, progression.labels, strict=True):
        np.testing.assert_array_equal(some(one).data, some(other).data)
        np.testing.assert_allclose(some(one).affine, some(other).affine, atol=1e-4)
    again.exclude(1)
    assert 1 not in set(again.lesions["lesion"])


def test_saving_corrections_and_again_into_the_same_folder(progression: ms.Progression, tmp_path: Path) -> None:
    progression.save(tmp_path)
    progression.exclude(2, visit=0)
    progression.save(tmp_path)
    again = ms.Progression.load(tmp_path)
    assert again.corrections == ["exclude lesion 2 at visit 1"]
    pd.testing.assert_frame_equal(again.lesions, progression.lesions, check_dtype=False)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_one_sighting_left_out_stays_bridged(tmp_path: Path) -> None:
    p = ms.track([mask(A), mask(A), mask(A)])
    p.exclude(1, visit=1)
    p.save(tmp_path)
    pd.testing.assert_frame_equal(ms.Progression.load(tmp_path).lesions, p.lesions, check_dtype=False)
    assert sorted(x.name for x in tmp_path.iterdir() if x.is_dir()) == ["ses-01", "ses-02", "ses-03"]


def test_two_visits_of_one_day_do_not_overwrite_each_other(tmp_path: Path) -> None:
    with pytest.warns(ms.MedseqWarning):
        p = ms.track([mask(A), mask(B)], dates=["2020-01-01"] * 2)
    p.save(tmp_path)
    assert [some(s).data.sum() for s in ms.Progression.load(tmp_path).labels] == [some(s).data.sum() for s in p.labels]


@pytest.mark.parametrize("break_it", ["gone", "no json", "no list", "outside", "no table"])
def test_broken_folders_are_one_clear_error(progression: ms.Progression, tmp_path: Path, break_it: str) -> None:
    progression.save(tmp_path)
    run = tmp_path / "run.json"
    facts = json.loads(run.read_text())
    if break_it == "gone":
        run.unlink()
    elif break_it == "no json":
        run.write_text("{")
    elif break_it == "no list":
        run.write_text(json.dumps({**facts, "visits": 3}))
    elif break_it == "outside":
        facts["visits"][0]["labels"] = "../../etc/passwd"
        run.write_text(json.dumps(facts))
    else:
        (tmp_path / "lesions.csv").unlink()
    with pytest.raises(ms.MedseqError):
        ms.Progression.load(tmp_path)


def test_plots_are_written_in_every_format(progression: ms.Progression, tmp_path: Path) -> None:
    for ending in ("png", "svg", "pdf"):
        progression.plot(tmp_path / f"p.{ending}")
        assert (tmp_path / f"p.{ending}").stat().st_size > 1000
    with pytest.raises(ms.MedseqError, match=r"\.png"):
        progression.plot(tmp_path / "p.nonsense")


def test_no_lesion_at_all_is_saved_and_read(tmp_path: Path) -> None:
    p = ms.track([mask(), mask()], dates=["2020-01-01", "2020-02-01"])
    p.save(tmp_path)
    again = ms.Progression.load(tmp_path)
    assert again.lesions.empty
    pd.testing.assert_frame_equal(again.summary, p.summary, check_dtype=False)


def test_the_common_space_is_kept(tmp_path: Path) -> None:
    moved = mask(A, B).replace(affine=affine_from((0.9, 0.9, 3), (105, -3, 7)))
    back = np.eye(4)
    back[0, 3] = -100
    p = ms.track([mask(A, B), moved], transforms=[None, back])
    p.save(tmp_path)
    again = ms.Progression.load(tmp_path)
    np.testing.assert_allclose(again.to_common(1), back)
    pd.testing.assert_frame_equal(again.lesions, p.lesions, check_dtype=False)


@pytest.mark.parametrize("table", ["lesions", "summary", "growth"])
def test_tables_as_parquet_and_csv(
    progression: ms.Progression, tmp_path: Path, table: Literal["lesions", "summary", "growth"]
) -> None:
    whole = getattr(progression, table)
    csv = pd.read_csv(progression.export(tmp_path / "t.csv", table=table))
    assert list(csv.columns) == list(whole.columns)
    pytest.importorskip("pyarrow")
    again = pd.read_parquet(progression.export(tmp_path / "t.parquet", table=table))
    pd.testing.assert_frame_equal(again, whole, check_dtype=False)


def test_a_table_in_an_unknown_form_is_refused(progression: ms.Progression, tmp_path: Path) -> None:
    with pytest.raises(ms.MedseqError, match="parquet"):
        progression.export(tmp_path / "t.xlsx")
    with pytest.raises(ms.MedseqError, match="no table"):
        progression.export(tmp_path / "t.csv", table="everything")
    assert not list(tmp_path.iterdir())
