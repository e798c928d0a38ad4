"""What was located lies in the viewer exactly where the labels lie: on tilted grids, at visits, along every axis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from scipy.spatial.transform import Rotation

import napari_medseq as ms
from napari_medseq import ImageSequence, Study, Visit
from napari_medseq import viewer as verbs
from napari_medseq.inference import Segmentation
from napari_medseq.viewer.layers.conversion import in_layer, layer_axis

#: (start, stop) along z, y, x of the arrays' axes
LESIONS = (((2, 5), (6, 12), (9, 11)), ((7, 8), (15, 19), (3, 9)))


def tilted(degrees: tuple[float, float, float], order: str = "zyx") -> ImageSequence:
    """A grid of other sizes and steps along each axis, rotated, and with its axes in another order than the house's."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag([0.8, 1.1, 4.0])
    affine[:3, 3] = 30.0, -20.0, 55.0
    columns = ["xyz".index(a) for a in reversed(order)]
    affine[:3, :3] = affine[:3, columns]
    return ImageSequence(np.zeros((10, 24, 20), np.float32), ("z", "y", "x"), affine, name="T1", modality="MR")


def result(seq: ImageSequence) -> Segmentation:
    labels = np.zeros(seq.data.shape, np.uint8)
    sure = np.zeros(seq.data.shape, np.float32)
    for k, box in enumerate(LESIONS):
        labels[tuple(slice(*s) for s in box)] = 1
        sure[tuple(slice(*s) for s in box)] = 0.9 - 0.2 * k
    return Segmentation(seq.labels_like(labels, name="found", label_names={1: "lesion"}), seq.like(sure), None, "m 1")


def extents(layer: Any) -> list[np.ndarray]:
    """Lowest and highest corner of each labelled piece in a Labels layer, in its own voxels."""
    from scipy import ndimage

    parts, _ = ndimage.label(np.asarray(layer.data) > 0, np.ones((3,) * layer.ndim))
    return [np.array([[s.start - 0.5, s.stop - 0.5] for s in where]).T for where in ndimage.find_objects(parts)]


@pytest.mark.parametrize("as_visit", [False, True])
@pytest.mark.parametrize(
    ("degrees", "order"),
    [((0, 0, 0), "zyx"), ((0, 0, 25), "xyz"), ((20, -15, 10), "zyx"), ((20, -15, 10), "yzx"), ((170, 5, 100), "xzy")],
)
def test_boxes_and_centres_lie_where_the_labels_lie(
    degrees: tuple[float, float, float], order: str, as_visit: bool
) -> None:
    seq = tilted(degrees, order)
    viewer = ViewerModel()
    if as_visit:
        visits = tuple(Visit(None, (seq,), (), f"ses-{k}") for k in (1, 2))
        image = verbs.add_study(viewer, Study("s", visits))[1]
    else:
        image = verbs.add_sequence(viewer, seq)
    found = result(verbs.to_sequence(image))
    (labels, _) = verbs.show_segmentation(viewer, image, found)
    where = ms.Locations.of(found)
    assert [round(f.score, 3) for f in where.found] == [0.9, 0.7]
    shapes, points = verbs.show_locations(viewer, image, where)
    assert (shapes.name, points.name) == (f"{image.name} boxes", f"{image.name} centres")
    # slices are drawn at their middle: half a voxel inside the extent, as is the visit
    inset = np.zeros(labels.ndim)
    inset[layer_axis(labels, seq.slice_axis)[0]] = 0.5
    inset[: labels.ndim - 3] = 0.5
    expected = sorted((e + np.stack([inset, -inset])).tolist() for e in extents(labels))
    for along in ("z", "y", "x"):  # the slice view is another for each; all three layers must agree in each
        verbs.step_through(viewer, along)
        lesion = shapes.features["lesion"].to_numpy()
        assert len(shapes.data) == 3 + 1
        drawn = []
        for number in (1, 2):
            mine = [p for box, n in zip(shapes.data, lesion, strict=True) if n == number for p in box]
            back = np.array([labels.world_to_data(shapes.data_to_world(p)) for p in mine])
            drawn.append([back.min(axis=0).tolist(), back.max(axis=0).tolist()])
        np.testing.assert_allclose(sorted(drawn), expected, atol=1e-3)
        middles = sorted(e.mean(axis=0).tolist() for e in extents(labels))
        centres = [np.asarray(labels.world_to_data(points.data_to_world(p))).tolist() for p in points.data]
        np.testing.assert_allclose(sorted(centres), middles, atol=1e-3)
    # in true millimetres too
    for f, box in zip(where.found, LESIONS, strict=True):
        middle = np.array([(a + b - 1) / 2 for a, b in reversed(box)])
        np.testing.assert_allclose(f.centre_mm, seq.affine[:3, :3] @ middle + seq.affine[:3, 3], atol=1e-3)
    # neither counts as one of the study's images
    if as_visit:
        assert [len(v.images) for v in verbs.study_of(viewer).visits] == [1, 1]


def test_of_a_layer_of_others_positions_are_its_own() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((10, 24, 20), np.float32), scale=(4, 1, 1), units="mm")
    found = result(verbs.to_sequence(layer))
    shapes, _ = verbs.show_locations(viewer, layer, ms.Locations.of(found))
    assert np.array_equal(shapes.scale, layer.scale)
    assert shapes.data[0][0].tolist() == [2.0, 5.5, 8.5]
    assert in_layer(layer, [[1, 2, 3]]).tolist() == [[1, 2, 3]]
    assert verbs.show_locations(viewer, layer, ms.Locations((), verbs.to_sequence(layer), "lesion", "m")) == []


def test_locate_gives_the_boxes_of_what_segment_labels(ball_study: Path, tiny_bundle: Path) -> None:
    viewer = ViewerModel()
    image = verbs.open_path(viewer, ball_study)[0]
    seq = verbs.to_sequence(image)
    script = ms.Locations.of(ms.segment(seq, str(tiny_bundle), outputs=("labels", "probability")))
    found = ms.locate(seq, str(tiny_bundle), min_score=0.01)
    assert [f.box for f in found.found] == [f.box for f in script.found if f.score >= 0.01]
    layers = verbs.locate(viewer, image, str(tiny_bundle), min_score=0.01)
    assert len(layers) == (2 if len(found) else 0)
