"""Boxes and landmarks: where the thing is by construction, in voxels, in millimetres, and as layers; and scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from napari_medseq import geometry
from napari_medseq.errors import GeometryError, MedseqError, OperationCancelled
from napari_medseq.evaluation import evaluate
from napari_medseq.evaluation.locations import box_iou
from napari_medseq.inference.inputs.frame import frame
from napari_medseq.inference.localisation import Location, Locations, locate
from napari_medseq.inference.segmentation import segment
from napari_medseq.models import Model
from napari_medseq.sequence import ImageSequence, Visit, affine_from
from napari_medseq.viewer.results.showing import location_layer_data, rectangles
from tests.narrowing import of
from tests.unit.inference.brightness import brightness
from tests.unit.training.small import CLASSIFIER, UNET, blob, model

#: (start, stop) along z, y, x
SPOTS = (((2, 4), (16, 22), (10, 16)), ((5, 6), (26, 32), (24, 30)))


def spotted(**changes: Any) -> ImageSequence:
    seq = blob(shape=(8, 48, 40), **changes)
    data = seq.data.copy()
    for spot in SPOTS:
        data[tuple(slice(*s) for s in spot)] = 3000
    return seq.replace(data=data)


def mask_of(seq: ImageSequence) -> ImageSequence:
    return seq.labels_like((seq.data == 3000).astype(np.uint8), name="truth", label_names={1: "spot"})


def located(image: ImageSequence, *found: tuple[float, np.ndarray, dict[str, tuple[int, int]]]) -> Locations:
    """Locations of a score, a centre (RAS+ mm) and a box each."""
    return Locations(tuple(Location(*one) for one in found), image, "spot", "by hand")


def seer(folder: Path, network: dict[str, Any]) -> Model:
    """A model that says yes to what is much brighter than tissue, and to nothing else."""
    m = brightness(model(folder, {**network, "neighbours": 0}))
    with torch.no_grad():
        if m.info.task == "segmentation":
            for head in of(nn.ModuleList, m.network.heads):
                of(Tensor, head.bias)[1] = -1200.0
        else:
            of(Tensor, of(nn.Module, m.network.evidence).bias).sub_(9.0)
            of(Tensor, of(nn.Module, m.network.step_head).bias).add_(8.0)
    return m


def holds(outer: dict[str, tuple[int, int]], spot: tuple[tuple[int, int], ...]) -> bool:
    return all(o[0] <= s[0] and s[1] <= o[1] for o, s in zip(outer.values(), spot, strict=True))


@pytest.mark.parametrize("network", [UNET, CLASSIFIER])
def test_both_spots_are_found_where_they_are(tmp_path: Path, network: dict[str, Any]) -> None:
    m, seq = seer(tmp_path / "m", network), spotted()
    out = locate(seq, m, device="cpu")
    assert len(out) == 2
    assert out.name == "lesion"
    for spot in SPOTS:
        (found,) = [f for f in out.found if holds(f.box, spot)]
        middle = np.array([(a + b - 1) / 2 for a, b in reversed(spot)])
        expected = geometry.apply_points(seq.affine, middle[None])[0]
        # half a cell of the coarse pass
        assert np.linalg.norm(found.centre_mm - expected) < 4
        assert found.score > 0.5


@pytest.mark.parametrize(("other", "count"), [(0.0, 2), (12.0, 0)])
def test_of_classes_that_exclude_each_other_the_others_count_too(tmp_path: Path, other: float, count: int) -> None:
    m = seer(tmp_path / "m", {**CLASSIFIER, "classes": 2, "target": "exclusive"})
    with torch.no_grad():
        of(Tensor, of(nn.Module, m.network.step_head).bias)[1] = other  # the first class has 8
    assert len(locate(spotted(), m, device="cpu")) == count


def test_a_close_look_gives_the_exact_box_and_centre(tmp_path: Path) -> None:
    coarse, fine, seq = seer(tmp_path / "c", CLASSIFIER), seer(tmp_path / "u", UNET), spotted()
    out = locate(seq, coarse, refine_with=fine, device="cpu")
    mask = np.asarray(segment(seq, fine).labels.data) > 0
    boxes = {
        tuple((s.start, s.stop) for s in where)
        for where in ndimage.find_objects(ndimage.label(mask, np.ones((3, 3, 3)))[0])
    }
    found = {tuple(f.box.values()) for f in out.found}
    assert len(found) == 2
    for spot in SPOTS:
        # the network's own pooling is all that stands between the box and the truth
        assert any(np.abs(np.subtract(box, spot)).max() <= 3 for box in found)
    assert len(boxes) == 2
    # what the second model does not see is dropped
    with torch.no_grad():
        for head in of(nn.ModuleList, fine.network.heads):
            of(Tensor, head.bias)[1] = -1e6
    assert len(locate(seq, coarse, refine_with=fine, device="cpu")) == 0


def test_the_region_is_all_that_segment_looks_at(tmp_path: Path) -> None:
    coarse, fine, seq = seer(tmp_path / "c", CLASSIFIER), seer(tmp_path / "u", UNET), spotted()
    region = locate(seq, coarse, device="cpu").region(margin_mm=2)
    seen: list[int] = []
    part = segment(seq, fine, region=region, progress=lambda _, n, __: seen.append(n)).labels
    inside = np.zeros(seq.data.shape, bool)
    # rounded out to the network's cells
    inside[tuple(slice(max(0, region[a][0] - (3 if a != "z" else 0)), region[a][1]) for a in seq.axes)] = True
    assert part.same_grid(seq)
    assert not part.data[~inside].any()
    assert inside.sum() < 0.5 * inside.size
    assert set(seen) == {region["z"][1] - region["z"][0]} != {seq.size("z")}
    whole = segment(seq, fine).labels.data
    # edges of the crop are padded, and that is all
    assert 2 * ((part.data > 0) & (whole > 0)).sum() / ((part.data > 0).sum() + (whole > 0).sum()) > 0.95
    with pytest.raises(MedseqError, match="holds no voxel"):
        segment(seq, fine, region={"y": (30, 30)})


def test_layers_lie_on_the_voxels() -> None:
    seq = spotted()
    f = Location(
        0.9,
        geometry.apply_points(seq.affine, np.array([[12.5, 18.5, 2.5]]))[0],
        {"z": (2, 4), "y": (16, 22), "x": (10, 16)},
    )
    out = Locations((f,), seq, "lesion", "m 1")
    (shapes, shape_facts, kind), (points, point_facts, other) = location_layer_data(out, scale=(5.0, 0.9, 0.9))
    assert (kind, other) == ("shapes", "points")
    assert len(shapes) == 2
    for k, corners in enumerate(shapes):
        assert np.array_equal(
            corners, [[2 + k, 15.5, 9.5], [2 + k, 15.5, 15.5], [2 + k, 21.5, 15.5], [2 + k, 21.5, 9.5]]
        )
    assert np.allclose(points, [[2.5, 18.5, 12.5]])
    assert shape_facts["scale"] == point_facts["scale"] == (5.0, 0.9, 0.9)
    assert list(shape_facts["features"]["lesion"]) == [1, 1]
    assert out.region(margin_mm=1) == {"z": (1, 5), "y": (14, 24), "x": (8, 18)}
    none = Locations((), seq, "lesion", "m 1")
    assert none.points().shape == (0, 3)
    assert none.region() == {"z": (0, 8), "y": (0, 48), "x": (0, 40)}
    napari = pytest.importorskip("napari.layers")
    napari.Shapes(shapes, **shape_facts)
    napari.Points(points, **point_facts)


def test_visits_flat_images_and_other_slice_axes(tmp_path: Path) -> None:
    m, seq = seer(tmp_path / "m", CLASSIFIER), spotted()
    both = locate(
        [Visit(None, (seq,), name="a"), Visit(None, (blob(1, shape=(8, 48, 40)),), name="b")], m, device="cpu"
    )
    assert [len(x) for x in both] == [2, 0]
    turned = ImageSequence(
        seq.data.transpose(1, 2, 0), ("z", "y", "x"), affine_from((5, 0.9, 0.9)), slice_axis="x", modality="MR"
    )
    out = locate(turned, m, device="cpu")
    assert len(out) == 2
    assert any(holds(f.box, (SPOTS[0][1], SPOTS[0][2], SPOTS[0][0])) for f in out.found)
    assert all(np.ptp(r[:, 2]) == 0 for r in rectangles(out))
    flat = locate(ImageSequence(seq.data[2], ("y", "x"), seq.affine, modality="MR"), m, device="cpu")
    assert len(flat) == 1
    assert rectangles(flat)[0].shape == (4, 2)


def test_the_coarse_pass_doubles_the_pixels_of_the_slices_whichever_way_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    m, seq, sizes = model(tmp_path / "m", UNET), spotted(), list[float | None]()

    def noted(channels: Any, **options: Any) -> Any:
        sizes.append(options["pixel_mm"])
        return frame(channels, **options)

    monkeypatch.setattr("napari_medseq.inference.localisation.frame", noted)
    sagittal = ImageSequence(
        seq.data.transpose(1, 2, 0), ("z", "y", "x"), affine_from((5, 0.9, 0.9)), slice_axis="x", modality="MR"
    )
    for image in (seq, sagittal):
        locate(image, m, refine_with=m, min_score=0.999, device="cpu")
    assert sizes == pytest.approx([1.8, 1.8])


def test_what_cannot_be_located_is_said_and_cancelling_works(tmp_path: Path) -> None:
    m, seq = seer(tmp_path / "m", CLASSIFIER), spotted()
    with pytest.raises(MedseqError, match="between 0 and 1"):
        locate(seq, m, min_score=0.0)
    seen: list[int] = []
    with pytest.raises(OperationCancelled):
        locate(seq, m, progress=lambda d, *_: seen.append(d), cancelled=lambda: len(seen) >= 3)
    assert len(seen) == 3


# -- scores --------------------------------------------------------------------------------------------------------------------
def test_scores_of_known_hits_and_misses() -> None:
    truth = mask_of(spotted())
    centres = [
        geometry.apply_points(truth.affine, np.array([[(a + b - 1) / 2 for a, b in reversed(s)]]))[0] for s in SPOTS
    ]
    off = centres[0] + [1.2, 0, 1.6]
    far = centres[0] + [0, 60.0, 0]
    # sure and 2 mm off, a repeat that is less sure, a false one, and the second lesion
    boxes = [dict(zip("zyx", spot, strict=True)) for spot in SPOTS]
    wide = {**boxes[0], "x": (10, 22)}  # twice the spot
    found = ((0.9, off, wide), (0.8, centres[0], boxes[0]), (0.7, far, boxes[1]), (0.6, centres[1], boxes[1]))
    got = evaluate(located(spotted(), *found), truth, within_mm=3)
    assert (got.hit, got.lesions, got.images) == (2, 2, 1)
    assert got.mean_error_mm == pytest.approx((2.0 + 0.0) / 2, abs=1e-6)
    assert got.table["box_iou"].tolist() == [0.5, 1.0]
    assert got.table["score"].tolist() == [0.9, 0.6]
    assert got.froc.at(0) == 0.5
    assert got.froc.at(1) == 1.0


def test_small_lesions_need_not_be_found_and_nothing_found_is_a_score() -> None:
    image, truth = spotted(), mask_of(spotted())
    second = geometry.apply_points(truth.affine, np.array([[26.5, 28.5, 5.0]]))[0]
    box = dict(zip("zyx", SPOTS[1], strict=True))
    # the second is 0.15 mL
    got = evaluate(located(image, (0.9, second, box)), truth, min_volume_ml=0.2)
    assert (got.hit, got.lesions) == (0, 1)
    assert got.froc.false_per_image.max() == 0
    assert np.isnan(evaluate({"a": located(image)}, {"a": truth}).mean_error_mm)
    with pytest.raises(MedseqError, match="no lesion"):
        evaluate(located(image), truth.replace(data=np.zeros_like(truth.data)))
    with pytest.raises(MedseqError, match="evaluate them apart"):
        evaluate([located(image), truth], [truth, truth])  # type: ignore[list-item]
    with pytest.raises(GeometryError, match="another grid"):
        evaluate(located(image), truth.replace(data=truth.data[:, 1:]))


def test_a_box_that_lacks_an_axis_is_met_along_it() -> None:
    assert box_iou({"y": (0, 4), "x": (0, 4)}, {"y": (2, 4), "x": (0, 4)}) == 0.5
    assert box_iou({"y": (0, 2), "x": (0, 2)}, {"y": (2, 4), "x": (2, 4)}) == 0
