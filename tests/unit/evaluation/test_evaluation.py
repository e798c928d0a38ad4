"""`evaluate`: pairing, the table, the summary, the figure, and clear refusals."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from image_baselines import kmeans, otsu, threshold, tuned_threshold
from napari_medseq.errors import GeometryError, MedseqError, OperationCancelled, WriteError
from napari_medseq.evaluation import evaluate
from napari_medseq.evaluation import evaluation as evaluation_module
from napari_medseq.evaluation.evaluation import Segmented
from napari_medseq.evaluation.metrics import compare
from napari_medseq.sequence import ImageSequence, affine_from

AFFINE = affine_from((1, 1, 3))


def labels(data: np.ndarray, name: str = "case", **more: Any) -> ImageSequence:
    axes = ("t", "z", "y", "x")[-data.ndim :]
    return ImageSequence(data.astype(np.uint8), axes, AFFINE, kind="labels", name=name, **more)


def pair(seed: int) -> tuple[ImageSequence, ImageSequence]:
    truth = np.zeros((4, 20, 20), np.uint8)
    truth[1:3, 4:12, 4:12] = 1
    truth[1:3, 14:18, 4:8] = 2
    moved = np.roll(truth, seed % 3, axis=1)
    return labels(moved, "made"), labels(truth, "case", label_names={1: "core", 2: "edge"})


def test_the_table_has_a_row_per_case_and_class() -> None:
    ps, ts = zip(*[pair(k) for k in range(4)], strict=True)
    found = evaluate(list(ps), list(ts))
    table = found.table
    assert list(table["case"].unique()) == ["case 1", "case 2", "case 3", "case 4"]
    assert list(table["label_name"].unique()) == ["core", "edge"]
    assert table.loc[(table["case"] == "case 2") & (table["label"] == 1), "dice"].item() == pytest.approx(7 / 8)
    assert table.loc[table["case"] == "case 1", "dice"].tolist() == [1.0, 1.0]
    assert table["truth_ml"].iloc[0] == pytest.approx(2 * 64 * 3 / 1000)
    summary = found.summary()
    row = summary[(summary["label"] == 1) & (summary["measure"] == "dice")].iloc[0]
    assert row["low"] <= row["mean"] <= row["high"]
    assert row["n"] == 4
    assert found.volumes(1).bias == 0
    assert "4 cases" in repr(found)


@pytest.mark.parametrize("asked", [1, [1], (1.0,), np.array([1]), range(1, 2)])
def test_classes_are_asked_for_as_numbers(asked: Any) -> None:
    made, truth = pair(1)
    assert evaluate(made, truth, labels=asked).table["dice"].tolist() == pytest.approx([7 / 8])


@pytest.mark.parametrize("asked", ["1", [1.5], [None], ["core"]])
def test_other_names_of_classes_are_refused(asked: Any) -> None:
    with pytest.raises(MedseqError, match=r"labels is .*; give whole numbers"):
        evaluate(*pair(1), labels=asked)


def test_values_below_zero_are_no_class() -> None:
    made, truth = pair(1)
    signed = np.where(np.asarray(made.data) == 0, -1, np.asarray(made.data).astype(np.int16))
    assert evaluate(made.replace(data=signed), truth).table["label"].tolist() == [1, 2]


def test_mappings_segmentations_and_single_labels_are_taken() -> None:
    p, t = pair(1)
    answers: dict[str, ImageSequence | Segmented] = {"a": SimpleNamespace(labels=p), "b": t}
    by_name = evaluate(answers, {"b": t, "a": t})
    assert set(by_name.table["case"]) == {"a", "b"}
    assert by_name.table.set_index(["case", "label"]).loc[("b", 1), "dice"] == 1
    assert len(evaluate(p, t, labels=[1]).table) == 1
    assert len(evaluate(labels(np.zeros((2, 4, 4))), labels(np.zeros((2, 4, 4)))).table) == 1


def test_frames_and_slices_go_by_the_axes_names() -> None:
    stack = np.zeros((3, 2, 8, 8), np.uint8)
    stack[1:, :, 2:5, 2:5] = 1
    found = evaluate(labels(stack), labels(stack))
    assert found.table["frame"].tolist() == [0, 1, 2]
    assert (found.table["dice"] == 1).all()
    flat = labels(np.eye(6))
    assert evaluate(flat, flat).table["hd95_mm"].item() == 0


def test_what_cannot_be_compared_is_refused_with_a_reason() -> None:
    p, t = pair(0)
    image = ImageSequence(np.zeros((4, 20, 20)), ("z", "y", "x"), AFFINE, name="scan")
    with pytest.raises(GeometryError, match="another grid"):
        evaluate(p.replace(affine=affine_from((1, 1, 2))), t)
    with pytest.raises(MedseqError, match="scan is an image"):
        evaluate(image, t)
    with pytest.raises(MedseqError, match="1 prediction for 2 truths"):
        evaluate([p], [t, t])
    with pytest.raises(MedseqError, match="without a partner: b"):
        evaluate({"a": p, "b": p}, {"a": t})
    with pytest.raises(MedseqError, match="both as mappings"):
        evaluate({"a": p}, [t])
    with pytest.raises(MedseqError, match="all different"):
        evaluate([p, p], [t, t], names=["x", "x"])
    for odd in (3, "file.nii", [3]):
        with pytest.raises(MedseqError, match="label sequences"):
            evaluate(odd, t)


def test_cancel_and_progress() -> None:
    p, t = pair(1)
    seen: list[int] = []
    evaluate([p, p], [t, t], progress=lambda done, _total, _message: seen.append(done))
    assert seen == [1, 2]
    with pytest.raises(OperationCancelled):
        evaluate(p, t, cancelled=lambda: True)


def test_two_methods_are_compared_on_the_same_cases() -> None:
    ps, ts = zip(*[pair(k) for k in range(6)], strict=True)
    better, worse = evaluate(list(ts), list(ts)), evaluate(list(ps), list(ts))
    found = better.against(worse)
    assert found.difference.value > 0
    assert found.worse == 0
    assert found.difference.n == 6
    with pytest.raises(MedseqError, match="no measure"):
        better.against(worse, "luck")
    with pytest.raises(MedseqError, match="different cases"):
        better.against(evaluate(list(ps)[:2], list(ts)[:2]))


def test_a_class_that_one_method_did_not_predict_counts_for_neither() -> None:
    truth = np.zeros((2, 20, 20), np.uint8)
    truth[:, :6, :6], truth[:, 10:16, 10:16] = 1, 2
    careful = np.where(truth == 1, 1, 0).astype(np.uint8)  # 2 is not predicted: its precision is not a number
    bold = np.where(truth == 1, 1, 0).astype(np.uint8)
    bold[:, 10:, :] = 2  # the same of 1, and a poor 2
    one, other = (evaluate(labels(p), labels(truth)) for p in (careful, bold))
    assert one.against(other, "precision").difference.value == 0
    assert other.against(one, "precision").difference.value == 0


def test_figure_and_table_are_written(tmp_path: Path) -> None:
    p, t = pair(1)
    empty = labels(np.zeros((4, 20, 20)))
    found = evaluate([p, empty], [t, t])
    assert found.table["hd95_mm"].isin([np.inf]).any()
    drawn = found.plot(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000
    assert len(drawn.axes) == 4
    assert any("not finite" in ax.get_xlabel() for ax in drawn.axes)
    assert evaluate(p, t, labels=[1]).plot() is not None
    assert found.save(tmp_path / "table.csv").read_text().startswith("case,frame,label")
    with pytest.raises(MedseqError, match="could not be written"):
        found.plot(tmp_path / "figure.nonsense")
    with pytest.raises(WriteError, match="could not be written"):
        found.save(tmp_path / "figure.png" / "table.csv")


def test_baselines_label_what_they_should() -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((3, 16, 16), bool)
    truth[1, 4:9, 4:9] = True
    data = np.where(truth, 100.0, 20.0) + rng.normal(0, 3, truth.shape)
    data[0, 0, 0] = np.nan
    image = ImageSequence(data, ("z", "y", "x"), AFFINE, name="scan")
    expert = labels(truth)
    value, dice = tuned_threshold(image, expert)
    assert dice == 1
    assert 40 < value < 105
    for made in (threshold(image, value), otsu(image)):
        assert np.array_equal(np.asarray(made.data) > 0, truth)
        assert made.kind == "labels"
    assert threshold(image, 0, 50).data[1, 5, 5] == 0
    groups = kmeans(image, 2)
    assert np.array_equal(np.asarray(groups.data) == 1, truth)
    assert "around" in groups.label_names[1]
    assert np.array_equal(kmeans(image, 3, seed=5).data, kmeans(image, 3, seed=5).data)
    bins = kmeans(ImageSequence(rng.normal(size=(1, 80, 80)), ("z", "y", "x"), AFFINE), 2)
    assert 0.4 < np.asarray(bins.data).mean() < 0.6


def test_tuned_threshold_is_the_best_of_all() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random((1, 12, 12)) < 0.3
    data = rng.normal(size=truth.shape) + truth
    image = ImageSequence(data, ("z", "y", "x"), AFFINE)
    value, dice = tuned_threshold(image, labels(truth), candidates=2000)
    best = max(2 * ((data >= v) & truth).sum() / ((data >= v).sum() + truth.sum()) for v in data[truth])
    assert dice == pytest.approx(best)
    assert 2 * ((data >= value) & truth).sum() / ((data >= value).sum() + truth.sum()) == pytest.approx(dice)


def test_baselines_refuse_what_they_cannot_do() -> None:
    image = ImageSequence(np.full((1, 4, 4), np.nan), ("z", "y", "x"), AFFINE)
    flat = ImageSequence(np.ones((1, 4, 4)), ("z", "y", "x"), AFFINE)
    with pytest.raises(MedseqError, match="no finite voxel"):
        otsu(image)
    with pytest.raises(MedseqError, match="grey image"):
        otsu(labels(np.ones((1, 4, 4))))
    with pytest.raises(MedseqError, match="distinct intensities"):
        kmeans(flat, 2)
    with pytest.raises(MedseqError, match="classes"):
        kmeans(flat, 1)
    with pytest.raises(MedseqError, match="empty"):
        tuned_threshold(flat, labels(np.zeros((1, 4, 4))))
    with pytest.raises(GeometryError, match="another grid"):
        tuned_threshold(flat, labels(np.ones((2, 4, 4))))


def test_frames_of_one_case_are_one_pair_of_volumes() -> None:
    data = np.zeros((3, 2, 6, 6), np.uint8)
    for frame, size in enumerate((2, 3, 4)):
        data[frame, :, :size, :size] = 1
    film = ImageSequence(data, ("t", "z", "y", "x"), affine_from((1, 1, 1)), kind="labels")
    more = film.replace(data=np.maximum(data, np.roll(data, 1, axis=3)))
    found = evaluate({"a": more, "b": film}, {"a": film, "b": film}).volumes()
    assert len(found.differences) == 2
    assert found.differences.tolist() == pytest.approx([2 * (2 + 3 + 4) / 3 / 1000, 0])


@pytest.mark.parametrize("seed", range(3))
def test_what_is_measured_in_the_box_of_a_class_is_what_the_whole_masks_say(seed: int) -> None:
    rng = np.random.default_rng(seed)
    answer, truth = (
        np.kron(rng.choice([0, 0, 0, 1, 2, 200], (2, 4, 5)), np.ones((2, 3, 3))).astype(np.uint8) for _ in range(2)
    )
    truth[:2, 3:6, 3:9] = 7  # one that the answer lacks
    table = evaluate(labels(answer), labels(truth), labels=[0, 1, 2, 7, 9, 200]).table
    for row in table.to_dict("records"):
        wanted = compare(answer == row["label"], truth == row["label"], AFFINE)
        assert {k: row[k] for k in wanted} == pytest.approx(wanted, nan_ok=True)


def test_each_class_is_compared_only_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    voxels = []

    def counted(p: np.ndarray, t: np.ndarray, affine: np.ndarray, **more: Any) -> dict[str, float]:
        voxels.append(p.size)
        return compare(p, t, affine, **more)

    monkeypatch.setattr(evaluation_module, "compare", counted)
    many = np.kron(np.arange(1, 101).reshape(10, 10), np.ones((1, 4, 4), np.uint8)).astype(np.uint8)
    evaluate(labels(many), labels(many))
    assert len(voxels) == 100
    assert max(voxels) <= 36
