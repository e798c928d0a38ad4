"""Steps from the command, the same as from a script: chains, files, folders, masks that follow; and the step that locates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq import cli
from napari_medseq.errors import MedseqError
from napari_medseq.locating import Locate
from napari_medseq.preprocessing import Median, follow, load
from napari_medseq.sequence import ImageSequence
from tests.unit.preprocessing.scans import mask, scan


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two visits with an image each, and a mask beside the first."""
    for number, day in enumerate(("20200101", "20200601")):
        place = tmp_path / "study" / f"ses-{day}"
        place.mkdir(parents=True)
        ms.write(scan(number).replace(name="T1"), place / "T1.nii.gz")
    ms.write(mask(), tmp_path / "study" / "ses-20200101" / "T1_seg.nii.gz")
    return tmp_path


def test_the_command_gives_what_the_script_gives(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, steps = folder / "study" / "ses-20200101" / "T1.nii.gz", folder / "chain.yaml"
    chain = ["-s", "crop", "-s", "{kind: median, radius: 2}", "-s", "zscore"]
    assert cli.main(["preprocess", str(image), *chain, "-o", str(folder / "a.nii.gz"), "--save-steps", str(steps)]) == 0
    assert cli.main(["preprocess", str(image), "-s", str(steps), "-o", str(folder / "b.nii.gz")]) == 0
    script = ms.preprocess(ms.read(image)[0], ["crop", Median(radius=2), "zscore"])
    for name in ("a", "b"):
        assert np.array_equal(ms.read(folder / f"{name}.nii.gz")[0].data, script.data)
    assert [s.model_dump(mode="json") for s in load(steps)] == script.meta["steps"]
    capsys.readouterr()


def test_a_recipe_runs_on_a_whole_study_and_one_that_fails_stops_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "out"
    assert cli.main(["preprocess", str(folder / "study"), "-s", "zscore", "-o", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["images"]) == 2
    for number, day in enumerate(("20200101", "20200601")):
        found = ms.read(out / f"ses-{day}" / "T1.nii.gz")[0]
        assert np.allclose(found.data, ms.preprocess(scan(number), "zscore").data, atol=1e-5)
    ms.write(scan().replace(data=scan().data - 500), folder / "study" / "ses-20200601" / "T1.nii.gz")
    assert cli.main(["preprocess", str(folder / "study"), "-s", "n4", "-o", str(folder / "n4")]) == 1
    said = capsys.readouterr()
    assert "logarithms" in said.err
    assert (folder / "n4" / "ses-20200101" / "T1.nii.gz").is_file()


def test_a_mask_follows_and_labels_are_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = folder / "study" / "ses-20200101"
    moved = folder / "m_seg.nii.gz"
    call = ["preprocess", str(place / "T1.nii.gz"), "-s", "{kind: crop, margin_mm: 0}", "-o", str(folder / "c.nii.gz")]
    assert cli.main([*call, "--follow", str(place / "T1_seg.nii.gz"), str(moved)]) == 0
    result = ms.preprocess(ms.read(place / "T1.nii.gz")[0], [{"kind": "crop", "margin_mm": 0}])
    assert np.array_equal(ms.read(moved)[0].data, follow(mask(), result).data)
    assert np.count_nonzero(ms.read(moved)[0].data) == np.count_nonzero(mask().data)
    tissue = folder / "tissue_seg.nii.gz"
    assert cli.main(["preprocess", str(place / "T1.nii.gz"), "-s", "tissue", "-o", str(tissue)]) == 0
    assert ms.read(tissue)[0].kind == "labels"
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-s", "nothing", "-o", "x.nii.gz"], "no preprocessing step 'nothing'"),
        (["-s", "{kind: median, radius: 99}", "-o", "x.nii.gz"], "radius = 99"),
        (["-s", "{kind: [", "-o", "x.nii.gz"], "cannot be read"),
        (["-s", "zscore", "-o", "x.png"], "written as one of"),
        (["-s", "zscore", "-o", "out", "--follow", "a", "b"], "follows one image"),
    ],
)
def test_what_is_wrong_is_one_line(
    folder: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert cli.main(["preprocess", str(folder / "study" / "ses-20200101" / "T1.nii.gz"), *arguments]) == 1
    err = capsys.readouterr().err
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_the_steps_and_their_settings_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["steps"]) == 0
    out = capsys.readouterr().out
    assert {"gabor", "n3", "nyul", "tissue"} <= {line.split()[0] for line in out.splitlines()}
    assert cli.main(["steps", "gabor", "--json"]) == 0
    rows = {r["setting"]: r for r in json.loads(capsys.readouterr().out)}
    assert rows["frequencies"]["unit"] == "1/mm"
    assert "strongest" in rows["output"]["choices"]
    assert cli.main(["steps", "magic"]) == 1


# -- locate -----------------------------------------------------------------------------------------------------------


def bright() -> ImageSequence:
    data = scan().data.copy()
    data[2:4, 8:12, 8:14] = 1000
    return scan().replace(data=data, modality="MR")


def test_what_a_model_finds_is_cut_out(tiny_bundle: Path) -> None:
    """The cut is `ms.locate`'s own region, whatever the model is worth."""
    found = ms.locate(bright(), tiny_bundle, min_score=0.01, force=True)
    step = Locate(model=str(tiny_bundle), min_score=0.01, margin_mm=4)
    if not len(found):
        with pytest.raises(MedseqError, match="no region to cut out"):
            ms.preprocess(bright(), step)
        return
    where = found.region(4)
    cut = bright().data[tuple(slice(*where[a]) for a in "zyx")]
    assert np.array_equal(ms.preprocess(bright(), [step]).data, cut)
    with pytest.raises(MedseqError, match="no region to cut out"):
        ms.preprocess(bright(), Locate(model=str(tiny_bundle), min_score=0.9999))


def test_the_package_offers_it_as_other_packages_offer_theirs() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["napari_medseq.steps"] == {"locate": "napari_medseq.locating:Locate"}
    assert ms.preprocess is not None
    assert Locate.model_fields["kind"].default == "locate"
