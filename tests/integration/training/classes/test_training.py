"""A table of images and their classes in, a classifier out, with nothing else said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq.cli import main
from napari_medseq.errors import MedseqWarning, SettingsError
from napari_medseq.sequence import ImageSequence, affine_from
from napari_medseq.training.checking import check_data
from napari_medseq.training.classes.plan import ClassPlan

SHORT = 0.01  # minutes
#: of the processor, so that a busy machine does not cut the reading short
QUICK: dict[str, Any] = {"minutes": SHORT, "clock": "process"}
SMALL = {"widths": [4, 8], "batch": 2}  # a network, where another thing is the matter


def exam(seed: int, *, ill: bool, steps: int = 5, **changes: object) -> ImageSequence:
    """A textured disc; of the ill one half is bright."""
    random = np.random.default_rng(seed)
    y, x = np.meshgrid(np.linspace(-1, 1, 20), np.linspace(-1, 1, 24), indexing="ij")
    plane = np.where(y**2 + x**2 < 0.8, 500 + 300 * (ill & (y > 0)), 0)
    data = plane + random.normal(0, 20, (steps, 20, 24))
    values: dict[str, object] = {"axes": ("z", "y", "x"), "affine": affine_from((1, 1, 4)), "name": "exam"}
    return ImageSequence(data.astype(np.float32), **{**values, **changes})  # type: ignore[arg-type]


def table(folder: Path, patients: int = 8, header: str = "patient,T1,class") -> Path:
    """A table of exams of which every second is ill."""
    rows = [header]
    for k in range(patients):
        ms.write(exam(k, ill=bool(k % 2), steps=4 + k % 3), folder / f"p{k}.nii.gz")
        rows.append(f"p{k},p{k}.nii.gz,{'ill' if k % 2 else 'well'}")
    (folder / "t.csv").write_text("\n".join(rows) + "\n")
    return folder / "t.csv"


def test_a_table_and_some_time_make_a_classifier_that_is_judged(tmp_path: Path) -> None:
    data, out = table(tmp_path, 12), tmp_path / "m"
    quick = {"minutes": 0.06, "clock": "process", "threads": 1, "settings": {"widths": [8, 16], "rate": 5e-3}}
    result = ms.train({"data": str(data), "out": str(out), **quick})
    assert result.scores is not None
    assert result.table is not None
    assert result.scores["measure"].tolist() == ["accuracy", "balanced accuracy", "AUC"]
    assert result.scores["value"].min() > 0.9
    assert set(result.table["patient"]) & set(result.patients) == set()
    assert sorted(result.table["class"]) == ["ill", "well"]
    for ill in (False, True):  # shorter and longer than what was seen
        for steps in (2, 9):
            answer = ms.classify(exam(99, ill=ill, steps=steps), result.model)
            assert answer.probabilities["ill" if ill else "well"] > 0.5
            assert answer.per_step.shape == (steps, 2)
            assert answer.per_step[:, 0 if ill else 1].min() > 0.5  # the bright half is in every slice
    assert "accuracy: 1.000 (95% CI" in result.model.info.card
    for row in result.table.to_dict("records"):  # judged as it is used
        image = ms.read(tmp_path / f"{row['patient']}.nii.gz")[0]
        assert ms.classify(image, result.model).probabilities["ill"] == row["probability ill"]
    # a smaller image is seen at the size that was learned from: how much of it is background decides, too
    assert isinstance(result.plan, ClassPlan)
    assert result.model.inference["size"] == list(result.plan.size)
    run = json.loads((tmp_path / "m.run" / "run.json").read_text())
    assert run["exams"] == {"ill": 5, "well": 5}
    plan = tmp_path / "m.run" / "plan.yaml"
    config = {"data": str(data), "out": str(tmp_path / "again"), **QUICK, "plan": str(plan)}
    assert ms.train({**config, "settings": SMALL}).seen > 0
    with pytest.raises(SettingsError, match="for the classes ill, well"):
        ms.train({**config, "classes": {0: "well", 1: "ill"}})


def test_of_few_patients_nobody_judges_but_folds_judge_by_all(tmp_path: Path) -> None:
    config = {"data": str(table(tmp_path)), **QUICK, "settings": SMALL}
    with pytest.warns(MedseqWarning, match="so few that none is kept back"):
        assert ms.train({**config, "out": str(tmp_path / "one")}).scores is None
    result = ms.train({**config, "out": str(tmp_path / "f"), "folds": 2})
    assert result.table is not None
    assert sorted(result.table["patient"]) == [f"p{k}" for k in range(8)]
    assert result.table.groupby(["fold", "class"]).size().tolist() == [2, 2, 2, 2]
    assert (tmp_path / "f" / "folds.csv").is_file()
    assert result.scores is not None
    assert result.scores["patients"].tolist() == [8, 8, 8]
    with pytest.raises(SettingsError, match="need at least 9 patients"):
        ms.train({**config, "out": str(tmp_path / "g"), "folds": 9})
    with pytest.raises(SettingsError, match="Nobody of class ill would be left"):
        ms.train({**config, "out": str(tmp_path / "h"), "judges": ["p1", "p3", "p5", "p7"]})


def test_exams_of_any_size_are_judged_as_they_are_used(tmp_path: Path) -> None:
    rows = ["patient,T1,class,split"]
    for k in range(8):
        large = (29, 27) if k == 7 else (20, 24)  # than the plan's size, and no multiple of what the network needs
        data = np.random.default_rng(k).normal(500 + 200 * (k % 2), 90, (4, *large)).astype(np.float32)
        ms.write(ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 4))), tmp_path / f"p{k}.nii.gz")
        rows.append(f"p{k},p{k}.nii.gz,{'ill' if k % 2 else 'well'},{'val' if k > 5 else 'train'}")
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    plan = {**SMALL, "size": [24, 24], "rate": 1e-9}
    with pytest.warns(MedseqWarning, match="learned next to nothing"):
        result = ms.train({"data": str(tmp_path / "t.csv"), "out": str(tmp_path / "m"), **QUICK, "settings": plan})
    assert result.table is not None
    assert sorted(result.table["patient"]) == ["p6", "p7"]
    for row in result.table.to_dict("records"):
        image = ms.read(tmp_path / f"{row['patient']}.nii.gz")[0]
        assert ms.classify(image, result.model).probabilities["ill"] == row["probability ill"]


def test_pictures_in_colour_and_grey(tmp_path: Path) -> None:
    from PIL import Image

    rows = ["patient,photo,class,split"]
    for k in range(6):
        red = np.full((24, 20), 60 + 100 * (k % 2)) + np.arange(20)
        grey = np.random.default_rng(k).integers(40, 90, (24, 20))
        picture = grey if k == 0 else np.stack([red, grey, grey], -1)
        Image.fromarray(picture.astype(np.uint8)).save(tmp_path / f"{k}.png")
        rows.append(f"p{k},{k}.png,{'red' if k % 2 else 'grey'},{'val' if k > 3 else 'train'}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    result = ms.train({"data": str(tmp_path / "t.csv"), "out": str(tmp_path / "m"), **QUICK, "settings": SMALL})
    assert result.table is not None
    assert set(result.table["patient"]) == {"p4", "p5"}
    for name in ("0.png", "1.png"):
        assert set(ms.classify(ms.read(tmp_path / name)[0], result.model).probabilities) == {"red", "grey"}


def test_frames_and_volumes_over_time(tmp_path: Path) -> None:
    rows = ["patient,cine,class"]
    for k in range(4):
        data = np.random.default_rng(k).normal(100, 10, (3 + k, 4, 20, 24)).astype(np.float32)
        data[..., 4:16, 4:18] += 400
        seq = ImageSequence(data, ("t", "z", "y", "x"), affine_from((1, 1, 4)), times=np.arange(3.0 + k), name="cine")
        ms.write(seq, tmp_path / f"{k}.nii.gz")
        rows.append(f"p{k},{k}.nii.gz,{'ab'[k % 2]}")
    ms.write(exam(9, ill=True), tmp_path / "volume.nii.gz")
    (tmp_path / "t.csv").write_text("\n".join([*rows, "p9,volume.nii.gz,a"]))
    with pytest.warns(MedseqWarning, match="p9 is left out: it has no frames"):
        result = ms.train({"data": str(tmp_path / "t.csv"), "out": str(tmp_path / "m"), **QUICK, "settings": SMALL})
    answer = ms.classify(ms.read(tmp_path / "3.nii.gz")[0], result.model)
    assert (answer.step_axis, len(answer.attention)) == ("t", 6)
    doubts = "\n".join(check_data(tmp_path / "t.csv").doubts)
    assert "4 of 5 cases have frames" in doubts


def test_of_several_series_in_a_folder_none_is_guessed(tmp_path: Path) -> None:
    for name in ("T1", "T2"):
        ms.write(exam(1, ill=True), tmp_path / "p1" / f"{name}.nii.gz")
    (tmp_path / "t.csv").write_text("patient,MR,class\np1,p1,ill\np1,p1/T1.nii.gz,ill\np2,p1/T2.nii.gz,well\n")
    found = check_data(tmp_path / "t.csv")
    assert len(found.rows) == 2
    assert "p1 holds 2 images (T1, T2)" in "\n".join(found.doubts)


def test_check_and_train_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = table(tmp_path, 4)
    data.write_text(data.read_text() + "p9,p0.nii.gz,ill\n")
    assert main(["check", str(data)]) == 0
    said = capsys.readouterr().out
    for text in ("class ill: 3 cases of 3 patients", "p0, p9 hold the same voxels, but are of the classes well, ill"):
        assert text in said
    settings = [f"--set=settings.{k}={json.dumps(v)}" for k, v in SMALL.items()]
    assert (
        main(
            [
                "train",
                str(data),
                "-o",
                str(tmp_path / "m"),
                "--minutes",
                str(SHORT),
                "--set",
                "clock=process",
                "--set",
                "validation=2",
                *settings,
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    for text in (
        "widths: [4, 8]  # as the settings say",
        "of patients that it has not seen (95 % confidence)",
        "balanced accuracy",
    ):
        assert text in said
    assert main(["classify", str(tmp_path / "p1.nii.gz"), "--model", str(tmp_path / "m")]) == 0
    assert "ill: " in capsys.readouterr().out
    data.write_text("patient,T1,class\np0,p0.nii.gz,well\n")
    assert main(["train", str(data), "-o", str(tmp_path / "n"), "--minutes", "1"]) == 1
    assert "nothing to tell apart" in capsys.readouterr().err


def test_padding_changes_no_answer_and_exams_of_another_kind_are_doubted(tmp_path: Path) -> None:
    result = ms.train({"data": str(table(tmp_path, 10)), "out": str(tmp_path / "m"), **QUICK, "settings": SMALL})
    assert isinstance(result.plan, ClassPlan)
    assert ClassPlan.read(tmp_path / "m.run" / "plan.yaml") == result.plan
    assert (result.plan.step_mm, result.plan.trimmed) == (4, True)
    image = exam(99, ill=True)
    answer = ms.classify(image, result.model)
    assert answer.warnings == ()
    wide = image.replace(data=np.pad(image.data, [(1, 2), (5, 30), (0, 9)], constant_values=-70))
    padded = ms.classify(wide, result.model)
    assert padded.probabilities == answer.probabilities
    assert np.array_equal(padded.per_step[1:-2], answer.per_step)
    with pytest.warns(MedseqWarning, match="72 mm wide"):
        assert "72 mm wide" in ms.classify(image.replace(affine=affine_from((3, 3, 4))), result.model).warnings[0]
    thin = exam(99, ill=True, steps=20, affine=affine_from((1, 1, 1)))
    with pytest.warns(MedseqWarning, match="saw averages of them"):
        assert ms.classify(thin, result.model).per_step.shape == (20, 2)


def numbered_table(folder: Path, patients: int = 6, column: str = "slice") -> Path:
    """A row for each slice (or frame) of exams in which the later half is bright on one side, but for the last, which nobody looked at."""
    rows = [f"patient,T1,{column},class"]
    for k in range(patients):
        steps = 5 + k % 3
        ill = np.arange(steps) >= steps // 2
        parts = [np.asarray(exam(10 * k + i, ill=bool(of), steps=1).data) for i, of in enumerate(ill)]
        image = exam(0, ill=False).replace(data=np.concatenate(parts))
        if column == "frame":
            image = image.replace(axes=("t", "y", "x"), times=np.arange(float(steps)))
        ms.write(image, folder / f"p{k}.nii.gz")
        rows += [f"p{k},p{k}.nii.gz,{i},{'ill' if of else 'well'}" for i, of in enumerate(ill[:-1])]
    (folder / "t.csv").write_text("\n".join(rows) + "\n")
    return folder / "t.csv"


@pytest.mark.parametrize("column", ["slice", "frame"])
def test_the_class_of_each_slice_or_frame_is_learned_from_a_table(column: str, tmp_path: Path) -> None:
    data = numbered_table(tmp_path, column=column)
    quick = {"minutes": 0.04, "clock": "process", "threads": 1, "settings": {"widths": [8, 16], "rate": 5e-3}}
    result = ms.train({"data": str(data), "out": str(tmp_path / "m"), "judges": ["p4", "p5"], **quick})
    assert result.table is not None
    assert result.scores is not None
    assert result.table[column].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5]  # the last of each has no row
    assert result.scores["value"].tolist()[0] > 0.6  # more than half of them are well
    assert f"{column}s: 9 of ill, 10 of well" in result.model.info.card
    answer = ms.classify(ms.read(tmp_path / "p5.nii.gz")[0], result.model)
    assert answer.per_step.shape == (7, 2)
    for row in result.table[result.table["patient"] == "p5"].to_dict("records"):  # judged as it is used
        assert answer.per_step[row[column]] == pytest.approx([row["probability ill"], row["probability well"]])


def test_check_lists_the_classes_of_slices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = numbered_table(tmp_path)
    with data.open("a") as file:
        file.write("p9,p0.nii.gz,1,well\np9,p0.nii.gz,7,ill\n")
    assert main(["check", str(data)]) == 0
    said = capsys.readouterr().out
    assert "a table of paths and classes of each slice: 7 cases of 7 patients" in said
    assert "class ill: 15 slices of 7 patients" in said
    assert "2 well, 2 ill" in said
    assert "p9: the table tells the class of slice 7, but there are 5, counted from 0, so it is left out" in said


def test_the_middle_alone_is_learned_from_and_looked_at_where_that_is_asked_for(tmp_path: Path) -> None:
    config = {"data": str(table(tmp_path)), **QUICK, "validation": 0}
    result = ms.train({**config, "out": str(tmp_path / "m"), "settings": {**SMALL, "middle_mm": 12}})
    assert isinstance(result.plan, ClassPlan)
    assert result.plan.size == (12, 12)
    image = exam(99, ill=True)
    other = np.random.default_rng(1).normal(0, 500, image.data.shape).astype(np.float32)
    other[:, 4:16, 6:18] = image.data[:, 4:16, 6:18]
    assert (
        ms.classify(image.replace(data=other), result.model).probabilities
        == ms.classify(image, result.model).probabilities
    )
    seen = np.asarray(ms.explain(image, result.model, method="occlusion").data)
    assert seen[:, 4:16, 6:18].any()
    assert not np.delete(seen, np.s_[4:16], 1).any()
    with pytest.raises(SettingsError, match="middle_mm is 'half'"):
        ms.train({**config, "out": str(tmp_path / "n"), "settings": {"middle_mm": "half"}})


def test_a_plan_that_was_changed_is_followed_to_the_letter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, plan = table(tmp_path, 10), tmp_path / "m.run" / "plan.yaml"
    assert main(["train", str(data), "-o", str(tmp_path / "m"), "--minutes", "5", "--plan-only"]) == 0
    assert "step_mm: 4" in capsys.readouterr().out
    assert not (tmp_path / "m").exists()
    made = ClassPlan.read(plan)
    assert made.doubt is not None
    made.overruled({**SMALL, "step_mm": None, "doubt": None}).save(tmp_path / "mine.yaml")
    shutil.copy(tmp_path / "mine.yaml", plan)
    shown: list[object] = []
    result = ms.train(
        {"data": str(data), "out": str(tmp_path / "m"), **QUICK},
        planned=shown.append,
    )
    assert isinstance(result.plan, ClassPlan)
    assert (result.plan.step_mm, result.plan.doubt, result.plan.widths) == (None, None, (4, 8))
    assert shown == [result.plan]
