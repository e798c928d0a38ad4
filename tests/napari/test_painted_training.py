"""Masks of several patients become a training set; two masks are compared; names of models are not replaced unasked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QMainWindow

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq._napari.controls.model_box import ModelBox
from napari_medseq._napari.jobs.work import WorkBar
from napari_medseq._napari.teach.more import TrainBox
from napari_medseq.errors import MedseqError, OperationCancelled, WriteError
from napari_medseq.sequence import ImageSequence, Study, Visit, affine_from
from napari_medseq.training.layouts import find_layout
from napari_medseq.viewer.layers.studies import facts_of
from napari_medseq.viewer.teaching import painted_training
from tests.napari.helpers import Wait, click

SHAPE = (4, 8, 10)


@pytest.fixture
def viewer() -> Any:
    """Two patients, of whose masks one has another name for the same class."""
    viewer: Any = ViewerModel()
    for patient, name in (("one", "tumour"), ("two", "oedema")):
        image = ImageSequence(
            np.random.default_rng(3).normal(size=SHAPE).astype(np.float32),
            ("z", "y", "x"),
            affine_from((1, 1, 2)),
            name="T1",
            modality="MR",
        )
        mask = image.labels_like(np.zeros(SHAPE, np.uint8), name="mask", label_names={1: name})
        verbs.add_study(viewer, Study(patient, (Visit(None, (image,), (mask,), "first"),)))
    return viewer


def masks(viewer: Any) -> list[Any]:
    return [layer for layer in viewer.layers if layer._type_string == "labels"]


def paint(viewer: Any, layer: Any, index: tuple[int, int, int], value: int = 1) -> None:
    viewer.layers.selection.active = layer
    layer.data_setitem(tuple(np.array([i]) for i in index), value)


def test_painted_masks_become_an_nnunet_folder_that_training_reads(viewer: Any, tmp_path: Path) -> None:
    for k, layer in enumerate(masks(viewer)):
        paint(viewer, layer, (1, 2, 3 + k))
    cases = verbs.painted_cases(viewer, masks(viewer))
    assert [case.name for case in cases] == ["one_first", "two_first"]
    folder = verbs.write_training_set(cases, tmp_path / "set")
    layout = find_layout(folder)
    assert [entry.case for entry in layout.entries] == ["one_first", "two_first"]
    assert layout.classes == {1: "oedema", 2: "tumour"}
    facts = json.loads((folder / "dataset.json").read_text())
    assert facts["labels"] == {"background": 0, "oedema": 1, "tumour": 2}
    assert facts["numTraining"] == 2
    for case, value in zip(cases, (2, 1), strict=True):  # the same value 1 was another class in each patient
        written = ms.read(folder / "labelsTr" / f"{case.name}.nii.gz", kind="labels")[0]
        assert np.array_equal(np.asarray(written.data), value * (np.asarray(case.labels.data) > 0))
        assert written.same_grid(ms.read(folder / "imagesTr" / f"{case.name}_0000.nii.gz")[0])
    with pytest.raises(WriteError, match="holds something"):
        verbs.write_training_set(cases, folder)


def test_painting_that_goes_on_is_not_in_the_cases(viewer: Any) -> None:
    layer = masks(viewer)[0]
    paint(viewer, layer, (1, 2, 3))
    (case,) = verbs.painted_cases(viewer, [layer])
    paint(viewer, layer, (2, 2, 3))
    assert np.count_nonzero(case.labels.data) == 1


def test_identities_of_lesions_are_one_class(viewer: Any) -> None:
    layer = masks(viewer)[0]
    paint(viewer, layer, (1, 2, 3), 1)
    paint(viewer, layer, (1, 4, 3), 7)
    facts_of(layer)["label_names"] = {1: "lesion 1", 7: "lesion 7"}
    layer.features = {"index": [0, 1, 7], "label": ["background", "lesion 1", "lesion 7"]}
    (case,) = verbs.painted_cases(viewer, [layer])
    assert case.classes == {1: "lesion", 7: "lesion"}


def test_visits_of_one_patient_are_one_patient_to_training_and_labels_without_a_name_stay_apart(tmp_path: Path) -> None:
    viewer: Any = ViewerModel()
    for patient in ("P 1", "P_2"):
        visits = []
        for day in ("2020-01-31", "2020-05-04"):
            image = ImageSequence(np.ones(SHAPE), ("z", "y", "x"), affine_from((1, 1, 2)), name=f"T1 {day}")
            mask = image.labels_like(np.zeros(SHAPE, np.uint8), name=f"mask {day}", label_names={})
            visits.append(Visit(None, (image,), (mask,), day))
        verbs.add_study(viewer, Study(patient, tuple(visits)))
    for layer in masks(viewer):
        layer.data[0, 1, 2, 3], layer.data[0, 2, 2, 3] = 1, 2
    cases = verbs.painted_cases(viewer, masks(viewer))
    assert cases[0].classes == {1: "lesion", 2: "label 2"}
    folder = verbs.write_training_set(cases, tmp_path / "set")
    layout = find_layout(folder, patient=painted_training.PATIENT)
    assert [entry.patient for entry in layout.entries] == ["P-1", "P-1", "P-2", "P-2"]
    again = verbs.new_labels(viewer, viewer.layers[0])
    again.data[0, 1, 2, 3] = 1
    with pytest.raises(MedseqError, match="both masks of"):
        verbs.painted_cases(viewer, masks(viewer))


def test_what_cannot_be_trained_on_is_said(viewer: Any) -> None:
    with pytest.raises(MedseqError, match="Nothing is painted"):
        verbs.painted_cases(viewer, masks(viewer))
    alone = viewer.add_labels(np.ones((2, 3, 4), np.uint8), name="alone")
    with pytest.raises(MedseqError, match="alone lies on no image"):
        verbs.painted_cases(viewer, [alone])
    assert verbs.masks_worth_training_on(viewer) == []
    paint(viewer, masks(viewer)[0], (1, 2, 3))
    assert verbs.masks_worth_training_on(viewer) == masks(viewer)[:1]


def test_a_name_that_exists_is_not_replaced_unasked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NAPARI_MEDSEQ_MODELS", str(tmp_path))
    assert verbs.check_model_name("mine") == tmp_path / "mine"
    (tmp_path / "mine").mkdir()
    with pytest.raises(MedseqError, match="mine already"):
        verbs.check_model_name("mine")
    assert verbs.check_model_name("mine", replace=True) == tmp_path / "mine"
    with pytest.raises(MedseqError, match="ships with"):
        verbs.check_model_name("hippocampus", replace=True)


def test_two_masks_are_compared_label_by_label(viewer: Any) -> None:
    first, second = masks(viewer)
    first.data[1, 2, 2:6] = 1
    second.data[1, 2, 4:8] = 1
    first.data[2, 2, 2] = 1
    second.data[2, 2, 2] = 2
    found = verbs.compare_masks(viewer, first, second)
    # 4 + 1 voxels and 4 voxels, 2 of them shared: by hand 2·2 / (5 + 4)
    assert found.table["dice"].tolist()[0] == pytest.approx(4 / 9)
    assert found.table["label"].tolist()[-1] == "any label"
    assert found.dice == pytest.approx(2 * 3 / (5 + 5))
    counts = np.bincount(np.asarray(verbs.to_sequence(found.layer).data).ravel(), minlength=4)
    assert counts[1:].tolist() == [2, 2, 1]
    assert found.table["only_first_ml"].tolist()[-1] == pytest.approx(2 * 2 / 1000)  # voxels of 2 mm³
    assert found.layer not in verbs.label_layers(viewer, "one")
    with pytest.raises(MedseqError, match="both are the same one"):
        verbs.compare_masks(viewer, first, first)
    other = viewer.add_labels(np.zeros((2, 3, 4), np.uint8))
    with pytest.raises(MedseqError, match="grid"):
        verbs.compare_masks(viewer, first, other)


def test_a_training_goes_on_only_on_the_same_masks(
    viewer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training is cancelled when it begins; what counts is which checkpoint it would have found."""
    monkeypatch.setenv("NAPARI_MEDSEQ_MODELS", str(tmp_path / "models"))
    paint(viewer, masks(viewer)[0], (1, 2, 3))
    run = tmp_path / "models" / "mine.run"

    def train() -> bool:
        """Whether the checkpoint is still there for it."""
        (run / "checkpoint.pt").write_bytes(b"as far as it came")
        messages: list[str] = []
        with pytest.raises(OperationCancelled):
            verbs.train_on_painted(
                verbs.painted_cases(viewer, masks(viewer)), "mine", folder=tmp_path / "set",
                progress=lambda _done, _of, text: messages.append(text),
                cancelled=lambda: bool(set(messages) - {"writing the training set"}),
            )  # fmt: skip
        assert not (tmp_path / "set").exists()
        return (run / "checkpoint.pt").exists()

    run.mkdir(parents=True)
    assert not train()  # whose it is, nobody knows
    assert (run / "checkpoint-before.pt").read_bytes() == b"as far as it came"
    assert train()
    paint(viewer, masks(viewer)[1], (1, 2, 3))
    assert not train()


@pytest.mark.viewer
def test_what_is_painted_of_two_patients_trains_a_model_that_every_list_offers(
    qtbot: Any, wait: Wait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notices: list[Any]
) -> None:
    """A network is truly trained, for fewer seconds than a user's."""
    monkeypatch.setenv("NAPARI_MEDSEQ_MODELS", str(tmp_path / "models"))
    shape = (10, 16, 16)
    z, y, x = np.indices(shape)
    viewer: Any = ViewerModel()
    images = []
    for number, patient in enumerate(("one", "two")):
        ball = (z - 5) ** 2 + (y - 8 - number) ** 2 + (x - 7) ** 2 < 20
        values = np.where(ball, 300, 100) + np.random.default_rng(number).normal(0, 10, shape)
        image = ImageSequence(
            values.astype(np.float32), ("z", "y", "x"), affine_from((1, 1, 1)), name="T1", modality="MR"
        )
        (layer,) = verbs.add_study(viewer, Study(patient, (Visit(None, (image,), (), "first"),)))
        painted = verbs.new_labels(viewer, layer)
        painted.data_setitem(np.nonzero(ball if painted.ndim == 3 else ball[None]), 1)
        images.append(image)
    lists = [ModelBox(["segmentation"]) for _ in range(2)]
    window = QMainWindow()
    box = TrainBox(viewer, WorkBar(window))
    window.setCentralWidget(box)
    for widget in (*lists, window):
        qtbot.addWidget(widget)
    for widget in lists:
        wait(widget.box.isEnabled)
    assert [layer.name for layer in box.masks.layers] == ["one first T1 painted", "two first T1 painted"]
    box.name.setText("balls")
    box.minutes.setDecimals(2)
    box.minutes.setMinimum(0.05)
    box.minutes.setValue(0.05)
    click(qtbot, box.button)
    wait(lambda: not box.work.busy)
    assert not [text for kind, text in notices if kind == "error"]
    assert all(widget.box.findText("balls") >= 0 for widget in lists)
    assert "balls" in [info.name for info in ms.list_models()]
    assert "learned from 2 masks" in box.outcome.text()
    assert box.count.text() == "Ticked: 2 masks of 2 patients."
    assert sorted(p.name for p in (tmp_path / "training-sets" / "balls" / "labelsTr").iterdir()) == [
        "one_first.nii.gz", "two_first.nii.gz",
    ]  # fmt: skip
    found = ms.segment(images[1], "balls").labels  # how well is tested where training is, with time to learn
    assert found.same_grid(images[1])
    assert found.label_names == {1: "lesion"}
