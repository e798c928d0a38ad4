"""Several images and masks opened together: which one is shown, what glows over it, and which colour each structure has."""

from __future__ import annotations

from datetime import date
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_medseq import ImageSequence, Study, Visit
from napari_medseq import viewer as verbs
from napari_medseq.colours import lesion_colour
from napari_medseq.inference import Segmentation
from napari_medseq.viewer.layers.appearance import arranged, distinct_colours, mask_colormap
from napari_medseq.viewer.layers.conversion import KEY, to_layer_data
from napari_medseq.viewer.layers.studies import by_patient, study_layer_data
from napari_medseq.viewer.opening import layer_data

GRID = (6, 20, 20)


def image(modality: str | None, name: str, spacing: float = 2.0, **more: Any) -> ImageSequence:
    data = np.random.default_rng(len(name)).uniform(0, 100, GRID).astype(np.float32)
    return ImageSequence(
        data, ("z", "y", "x"), np.diag([spacing, spacing, 3.0, 1.0]), modality=modality, name=name, **more
    )


def mask(of: ImageSequence, name: str, names: dict[int, str], colors: dict[int, Any] | None = None) -> ImageSequence:
    found = of.labels_like(np.ones(GRID, np.uint8), name=name, label_names=names)
    return found.replace(meta=of.meta | ({"colors": colors} if colors else {}))


def petct(**more: Any) -> Visit:
    mr, pet, ct = image("MR", "T1", 1.8, **more), image("PT", "PET", 2.2, **more), image("CT", "CT", **more)
    red = {1: (1.0, 0.0, 0.0)}
    masks = [mask(of, f"RTstruct_{k}", {1: f"GTV {of.name}"}, red) for k, of in enumerate((mr, pet, ct))]
    return Visit(date(2020, 1, 31), (mr, pet, ct), tuple(masks), "ses-20200131")


def shown(data: Any) -> dict[str, Any]:
    return {kwargs["metadata"][KEY]["name"]: kwargs for _, kwargs, _ in data if kwargs.get("visible", True)}


def test_of_ct_mr_and_pet_the_ct_is_seen_with_the_pet_glowing_over_it() -> None:
    data = study_layer_data(Study("s", (petct(),)))
    names = [kwargs["metadata"][KEY]["name"] for _, kwargs, _ in data]
    assert names[:3] == ["CT", "T1", "PET"]
    look = shown(data)
    assert set(look) == {"CT", "PET", "RTstruct_2"}
    assert (look["PET"]["blending"], look["PET"]["colormap"]) == ("additive", "inferno")
    assert look["PET"]["opacity"] < 1
    assert look["PET"]["contrast_limits"][0] >= 0
    assert "blending" not in look["CT"]
    # the last layer becomes the active one: one that is seen
    assert names[-1] == "RTstruct_2"
    # each mask says on which image it was drawn
    assert data[-1][1]["name"] == "s ses-20200131 RTstruct_2 on CT"
    viewer = ViewerModel()
    layers = verbs.add_study(viewer, Study("s", (petct(),)))
    assert [layer.visible for layer in layers] == [True, False, True, False, False, True]
    assert layers[2].blending == "additive"


def test_masks_that_ask_for_one_colour_get_distinct_ones_alike_at_each_visit() -> None:
    visits = tuple(Visit(date(2020, 1, k), petct().images, petct().labels, f"ses-2020010{k}") for k in range(1, 4))
    viewer = ViewerModel()
    layers = [layer for layer in verbs.add_study(viewer, Study("s", visits)) if layer.name.find("RTstruct") >= 0]
    assert len(layers) == 9
    colours: dict[str, set[Any]] = {layer.name.split(" ", 2)[2]: set() for layer in layers}
    for layer in layers:
        colours[layer.name.split(" ", 2)[2]].add(tuple(np.round(layer.get_color(1), 3)))
    assert all(len(c) == 1 for c in colours.values())
    apart = [np.linalg.norm(np.subtract(a.copy().pop(), b.copy().pop())) for a, b in combinations(colours.values(), 2)]
    assert min(apart) > 0.2
    assert (1.0, 0.0, 0.0, 1.0) in set.union(*colours.values())  # the file's colour is worn by one of them


def test_the_same_series_is_seen_at_every_visit_and_a_volume_rather_than_frames() -> None:
    frames = image("MR", "dynamic")
    frames = frames.replace(
        data=np.stack([np.asarray(frames.data)] * 3), axes=("t", "z", "y", "x"), times=np.arange(3.0)
    )
    first = Visit(date(2020, 1, 1), (frames, image("MR", "T2"), image("MR", "T1")), (), "ses-20200101")
    later = Visit(date(2020, 2, 1), (image("MR", "T1"), frames), (), "ses-20200201")
    data = study_layer_data(Study("s", (first, later)))
    assert [(k["metadata"][KEY]["ordinal"], n) for _, k, _ in data if k.get("visible", True) for n in [k["name"]]] == [
        (0, "s ses-20200101 T1"),
        (1, "s ses-20200201 T1"),
    ]


def test_pet_elsewhere_or_alone_is_an_image_of_its_own() -> None:
    ct, pet = image("CT", "CT"), image("PT", "PET")
    far = pet.replace(affine=np.array(pet.affine) + np.pad([[0], [0], [900.0]], ((0, 1), (3, 0))))
    assert set(shown(study_layer_data(Study("s", (Visit(None, (ct, far), (), "v"),))))) == {"CT"}
    alone = shown(study_layer_data(Study("s", (Visit(None, (pet,), (), "v"),))))
    assert alone["PET"]["colormap"] == "gray"
    # NIfTI files say no modality; their names may
    nameless = [to_layer_data(image(None, name)) for name in ("pat1_PET", "pat1_CT", "compete")]
    assert set(shown(arranged(nameless))) == {"pat1_CT", "pat1_PET"}


def test_two_patients_in_a_folder_are_two_studies_and_one_is_seen(tmp_path: Any, monkeypatch: Any) -> None:
    one, two = petct(meta={"patient": "patient-1"}), petct(meta={"patient": "patient-2"})
    both = Study("heap", (one, Visit(date(2021, 1, 1), two.images, two.labels, "ses-20210101")))
    assert [(s.name, len(s.visits)) for s in by_patient(both)] == [("heap patient-1", 1), ("heap patient-2", 1)]
    monkeypatch.setattr("napari_medseq.io.read_study", lambda *_a, **_k: both)
    data = layer_data(tmp_path)
    assert len(data) == 12
    assert {k["metadata"][KEY]["study"] for _, k, _ in data if k.get("visible", True)} == {"heap patient-1"}
    assert by_patient(Study("s", (petct(),)))[0].name == "s"


@pytest.mark.parametrize("slices", [1, 2, 3, 4, 5])
def test_a_few_sagittal_slices_are_not_taken_for_colours(slices: int) -> None:
    affine = np.array([[0, 0, 4.0, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    sagittal = ImageSequence(np.zeros((slices, 64, 64), np.uint8), ("z", "y", "x"), affine, name="sagittal")
    layer = verbs.add_sequence(ViewerModel(), sagittal)
    assert not layer.rgb
    assert layer.data.shape[-1] == slices
    np.testing.assert_allclose(verbs.world_affine(layer), affine)


def test_what_a_model_found_is_told_from_the_mask_that_was_there() -> None:
    t1 = image("MR", "T1")
    viewer = ViewerModel()
    layers = verbs.add_study(viewer, Study("s", (Visit(None, (t1,), (mask(t1, "tumor", {1: "tumor"}),), "v"),)))
    found = t1.labels_like(np.ones(GRID, np.uint8), name="found", label_names={1: "lesion"})
    (answer,) = verbs.show_segmentation(viewer, layers[0], Segmentation(found, None, None, "m 1"))
    assert np.linalg.norm(np.subtract(answer.get_color(1), layers[1].get_color(1))) > 0.2


def test_colours_of_many_structures_and_of_what_is_painted_later() -> None:
    names = {v: f"organ {v}" for v in range(1, 8)} | {2035: "insula"}
    colours = distinct_colours(names, {2: (0.0, 1.0, 0.0)}, [lesion_colour(1)])
    assert colours[2] == (0.0, 1.0, 0.0, 1.0)
    assert min(np.linalg.norm(np.subtract(a, b)) for a, b in combinations(colours.values(), 2)) > 0.2
    table = mask_colormap(colours)
    np.testing.assert_allclose(table.map(2035), colours[2035], atol=1e-6)
    assert tuple(table.map(0)) == (0, 0, 0, 0)
    ring = mask_colormap({3: (0.0, 0.0, 1.0, 1.0)})
    np.testing.assert_allclose(ring.map(3), (0.0, 0.0, 1.0, 1.0), atol=1e-6)
    assert len({tuple(ring.map(v)) for v in range(1, 50)}) == 49


def test_masks_on_one_grid_are_seen_with_the_image_that_they_are_called_after() -> None:
    phases = [image("MR", "ED"), image("MR", "ES"), image("MR", "EDgated")]
    masks = [
        phases[0].labels_like(np.ones(phases[0].data.shape, np.uint8), name=name, label_names={})
        for name in ("ED_labels", "ES_labels", "ROI")
    ]
    data = study_layer_data(Study("s", (Visit(None, tuple(phases), tuple(masks), "v"),)))
    seen = [str(kwargs["metadata"][KEY]["name"]) for _, kwargs, _ in data if kwargs.get("visible", True)]
    assert seen == ["ED", "ED_labels", "ROI"] or seen == ["ED", "ROI", "ED_labels"]
