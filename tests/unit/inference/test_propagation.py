"""`propagate`: painted voxels stay, every step is answered, and bad input is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any, cast

import dask.array as da
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

import napari_medseq as ms
from napari_medseq.errors import DeviceError, GeometryError, MedseqError, ModelError, OperationCancelled
from napari_medseq.inference.prompts import carrying, passes
from napari_medseq.inference.prompts.objects import objects_of
from napari_medseq.inference.prompts.planes import planes_along
from napari_medseq.inference.prompts.window import PromptSettings
from napari_medseq.models import Model
from napari_medseq.models.prompted_unet import PromptedUNet
from napari_medseq.sequence import ImageSequence, Visit, affine_from
from tests.narrowing import of
from tests.unit.models.prompted import SMALL, prompted_model, prompted_network
from tests.unit.training import small

Mask = NDArray[np.bool_]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Untrained: the interpolated shape."""
    return prompted_model(tmp_path_factory.mktemp("m") / "plain")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Random weights: everything has a say, and nothing makes sense."""
    return prompted_model(tmp_path_factory.mktemp("m") / "mixed", prompted_network())


def box(shape: Sequence[int], *spans: tuple[int, int]) -> Mask:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*s) for s in spans)] = True
    return mask


def image_of(mask: Mask, axes: tuple[str, ...] = ("z", "y", "x"), **changes: Any) -> ImageSequence:
    noise = np.random.default_rng(0).normal(0, 0.3, mask.shape)
    values: dict[str, Any] = {"affine": affine_from((1, 1, 2)), "name": "scan"}
    return ImageSequence((mask * 3 + noise).astype(np.float32), axes, **{**values, **changes})


def painted_on(image: ImageSequence, objects: dict[int, Mask], axis: str, steps: Sequence[int]) -> ImageSequence:
    data = np.zeros(image.data.shape, np.uint8)
    at: list[slice | int] = [slice(None)] * data.ndim
    for step in steps:
        at[image.axis(axis)] = step
        for value, mask in objects.items():
            data[tuple(at)][mask[tuple(at)]] = value
    return image.labels_like(data, name="painted", label_names={v: f"object {v}" for v in objects})


TUBE = box((9, 48, 40), (1, 8), (14, 34), (12, 30))


def data_of(found: ms.Propagation) -> NDArray[np.integer]:
    return np.asarray(found.labels.data).astype(np.int64)


# -- what it gives -----------------------------------------------------------------------------------------------------
def test_painted_steps_stay_and_the_shape_between_them_is_filled(plain: Model) -> None:
    image = image_of(TUBE)
    labels = painted_on(image, {3: TUBE}, "z", [2, 6])
    found = ms.propagate(image, labels, plain)
    assert isinstance(found, ms.Segmentation)
    data = data_of(found)
    assert np.array_equal(data[[2, 6]], np.asarray(labels.data)[[2, 6]])
    for step in (3, 4, 5):
        assert np.array_equal(data[step] == 3, TUBE[4])
    assert found.labels.label_names == {3: "object 3"}
    assert found.labels.same_grid(image)
    assert found.labels.data.dtype == labels.data.dtype
    assert (found.axis, found.model) == ("z", "plain 0")


def test_an_annotated_empty_step_ends_the_object(plain: Model) -> None:
    image = image_of(TUBE)
    labels = painted_on(image, {1: TUBE}, "z", [3])
    for annotated in ([0, 8], {1: [0, 8]}):
        data = data_of(ms.propagate(image, labels, plain, annotated=annotated))
        assert data[[0, 8]].sum() == 0
        assert data[4].sum() > 0
    assert data_of(ms.propagate(image, labels, plain))[[0, 8]].all(axis=0).sum() > 0  # an untrained network copies on


@pytest.mark.parametrize("axis", ["z", "y", "x"])
def test_every_axis_of_space_is_as_good(plain: Model, axis: str) -> None:
    tube = box((20, 20, 20), (4, 16), (4, 16), (4, 16))
    image = image_of(tube, affine=affine_from((1, 1, 1)))
    labels = painted_on(image, {1: tube}, axis, [6, 12])
    for given in (axis, None):  # None: as it was painted
        found = ms.propagate(image, labels, plain, axis=given)
        assert found.axis == axis
        at = image.axis(axis)
        assert np.array_equal(data_of(found).take(9, at) > 0, tube.take(9, at))


def test_frames_and_frames_of_volumes(plain: Model) -> None:
    flat = np.repeat(box((24, 24), (6, 16), (8, 18))[None], 5, axis=0)
    cine = image_of(flat, ("t", "y", "x"))
    found = ms.propagate(cine, painted_on(cine, {1: flat}, "t", [1]), plain)
    assert found.axis == "t"
    assert np.array_equal(data_of(found) > 0, flat)
    deep = np.repeat(flat[:, None], 3, axis=1)
    volumes = image_of(deep, ("t", "z", "y", "x"))
    painted = painted_on(volumes, {1: deep}, "t", [0])
    whole = ms.propagate(volumes, painted, plain)  # a frame painted whole goes on to the others
    assert whole.axis == "t"
    assert np.array_equal(data_of(whole) > 0, deep)
    only = np.zeros(deep.shape, np.uint8)
    only[2, 1][deep[2, 1]] = 1  # one slice of one frame: its own frame is filled, the others are not
    with pytest.warns(ms.MedseqWarning, match="4 of 5 frames are not painted"):
        data = data_of(ms.propagate(volumes, painted.replace(data=only), plain))
    assert np.array_equal(data[2] > 0, deep[2])
    assert data[[0, 1, 3, 4]].sum() == 0


def test_the_more_probable_object_wins_and_painted_voxels_stay(plain: Model) -> None:
    a, b = box((9, 48, 48), (0, 9), (10, 30), (8, 26)), box((9, 48, 48), (0, 9), (10, 30), (22, 40))
    image = image_of(a | b)
    data = np.zeros(image.data.shape, np.uint8)
    data[2][a[2]] = 1
    data[6][b[6]] = 2
    found = data_of(ms.propagate(image, painted_on(image, {1: a}, "z", [2]).replace(data=data), plain))
    assert np.array_equal(found[2][a[2]], np.ones(int(a[2].sum()), np.uint8))
    assert np.array_equal(found[6][b[6]], np.full(int(b[6].sum()), 2, np.uint8))
    assert not (found[2] == 1)[~a[2]].any()  # no more of an object on its own annotated step
    assert {1, 2} == set(np.unique(found[4])) - {0}
    deep_in_a, deep_in_b = found[4, 20, 12], found[4, 20, 36]
    assert (deep_in_a, deep_in_b) == (1, 2)


def test_many_objects_at_once(plain: Model) -> None:
    grid = {i * 10 + j + 1: box((5, 80, 160), (0, 5), (i * 16 + 2, i * 16 + 12), (j * 16 + 2, j * 16 + 12))
            for i in range(5) for j in range(10)}  # fmt: skip
    image = image_of(np.any(list(grid.values()), axis=0))
    labels = painted_on(image, grid, "z", [2])
    data = data_of(ms.propagate(image, labels, plain))
    for value, mask in grid.items():
        assert np.array_equal(data == value, mask)


@pytest.mark.parametrize("together", [0, 1 << 30])
def test_objects_get_together_what_each_gets_alone(monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    monkeypatch.setattr(carrying, "_TOGETHER_CPU", together)  # one by one, and as one batch
    parts = {k + 1: box((9, 48, 120), (1, 8), (16, 30), (40 * k + 12, 40 * k + 26)) for k in range(3)}
    image = image_of(np.logical_or.reduce(list(parts.values())))
    drawn = painted_on(image, parts, "z", [4])
    planes = planes_along(image, "z")
    network, settings = passes.ready(prompted_network(), CPU), PromptSettings()
    carrier = carrying.Carrier(planes, planes.view(np.asarray(drawn.data)), network, settings, CPU)
    objects, all_ = objects_of(drawn, planes, None), dict[int, carrying.CarriedObject]()
    carrier.carry(objects, lambda found: all_.update({found.object.value: found}))
    assert sorted(all_) == [1, 2, 3]
    for one in objects:
        alone: list[carrying.CarriedObject] = []
        carrier.carry([one], alone.append)
        assert alone[0].window == all_[one.value].window
        assert torch.allclose(torch.sigmoid(alone[0].logits), torch.sigmoid(all_[one.value].logits), atol=1e-4)


def test_an_object_of_two_parts_keeps_both(plain: Model) -> None:
    two = box((9, 48, 60), (0, 9), (10, 20), (4, 14)) | box((9, 48, 60), (0, 9), (30, 40), (44, 56))
    image = image_of(two)
    data = data_of(ms.propagate(image, painted_on(image, {1: two}, "z", [2, 6]), plain))
    assert np.array_equal(data[4] > 0, two[4])


def blind(folder: Path, **inference: Any) -> Model:
    """A model that finds nothing that is not painted."""
    network = PromptedUNet(**SMALL)
    with torch.no_grad():
        cast(torch.Tensor, network.heads[0].bias).fill_(-6)
    return prompted_model(folder, network, **inference)


@pytest.mark.parametrize("before", [0, 14], ids=["at the start", "further on"])
def test_where_the_network_loses_a_painted_object_the_interpolated_shape_keeps_it(tmp_path: Path, before: int) -> None:
    tube = np.pad(TUBE, ((before, 0), (0, 0), (0, 0)))
    image, steps = image_of(tube), [before + k for k in (1, 4, 7)]
    labels = painted_on(image, {1: tube}, "z", steps)
    alone, trusting = (blind(tmp_path / str(k), shape_gain=g) for k, g in enumerate((None, 0.02)))
    assert np.flatnonzero(data_of(ms.propagate(image, labels, alone)).any((1, 2))).tolist() == steps
    found = data_of(ms.propagate(image, labels, trusting)) > 0
    assert not (found & ~tube).any()
    assert found[before + 2 : before + 7].sum() > 0.8 * TUBE[2:7].sum()


def test_a_shape_that_does_not_predict_the_hidden_step_does_not_count(tmp_path: Path) -> None:
    jumping = TUBE.copy()
    jumping[4] = np.roll(TUBE[4], (-14, 20), (0, 1)) & ~TUBE[4]  # where it is hidden it is elsewhere
    image = image_of(jumping)
    found = ms.propagate(image, painted_on(image, {1: jumping}, "z", [1, 4, 7]), blind(tmp_path / "m", shape_gain=0.02))
    assert np.flatnonzero(data_of(found).any((1, 2))).tolist() == [1, 4, 7]


def test_between_frames_no_shape_is_interpolated_in_space(tmp_path: Path) -> None:
    cine = image_of(TUBE, ("t", "y", "x"))
    found = ms.propagate(cine, painted_on(cine, {1: TUBE}, "t", [1, 4, 7]), blind(tmp_path / "m", shape_gain=0.02))
    assert np.flatnonzero(data_of(found).any((1, 2))).tolist() == [1, 4, 7]


@pytest.mark.parametrize("contrast", [None, 3.0])
def test_the_network_sees_intensities_near_the_object_only(
    mixed: Model, monkeypatch: pytest.MonkeyPatch, contrast: float | None
) -> None:
    image = image_of(TUBE)
    air = np.array(image.data)
    air[:, :, 36:] = -1000
    seen: list[float] = []
    sequence = carrying.Carrier._sequence

    def watched(self: Any, group: Any) -> Any:
        seen.extend(float(w.image.min()) for w in group)
        return sequence(self, group)

    monkeypatch.setattr(carrying.Carrier, "_sequence", watched)
    model = replace(mixed, inference={"contrast": contrast})
    ms.propagate(image.replace(data=air), painted_on(image, {1: TUBE}, "z", [4]), model)
    assert seen
    assert (min(seen) < -900) == (contrast is None)


def test_only_the_steps_wanted_are_labelled(plain: Model) -> None:
    image = image_of(TUBE)
    labels = painted_on(image, {1: TUBE}, "z", [2, 6])
    data = data_of(ms.propagate(image, labels, plain, steps=[4]))
    assert np.flatnonzero(data.any(axis=(1, 2))).tolist() == [2, 4, 6]


def test_the_next_step_to_check_is_no_painted_one(mixed: Model) -> None:
    image = image_of(TUBE)
    found = ms.propagate(image, painted_on(image, {1: TUBE}, "z", [2, 6]), mixed)
    assert found.doubt.shape == (9,)
    assert found.doubt[[2, 6]].tolist() == [0, 0]
    assert found.next_step == int(found.doubt.argmax())
    assert found.next_step not in (2, 6)


# -- the same whatever the way ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("chunk", [1, 3, 50])
@pytest.mark.parametrize("roomy", [0, 1 << 40])
def test_the_answer_does_not_depend_on_the_chunk(
    mixed: Model, monkeypatch: pytest.MonkeyPatch, chunk: int, roomy: int
) -> None:
    image = image_of(TUBE)
    labels = painted_on(image, {1: TUBE}, "z", [2, 6])
    expected = data_of(ms.propagate(image, labels, mixed))
    monkeypatch.setattr(passes, "_CHUNK", chunk)
    monkeypatch.setattr(passes, "_ROOMY", roomy)
    monkeypatch.setattr(carrying, "_HELD", 0)
    monkeypatch.setattr(carrying, "_TOGETHER_CPU", 0)
    assert np.array_equal(data_of(ms.propagate(image, labels, mixed)), expected)


def test_a_lazy_image_is_read_plane_by_plane(mixed: Model) -> None:
    image = image_of(TUBE)
    labels = painted_on(image, {1: TUBE}, "z", [2, 6])
    read: list[tuple[int, ...]] = []

    def block(values: NDArray[np.float32]) -> NDArray[np.float32]:
        read.append(values.shape)
        return values

    chunked = da.from_array(image.data, chunks=(1, -1, -1))
    lazy = image.replace(data=chunked.map_blocks(block, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32)))
    found = data_of(ms.propagate(lazy, labels, mixed))
    assert np.array_equal(found, data_of(ms.propagate(image, labels, mixed)))
    assert set(read) == {(1, 48, 40)}


def test_a_colour_image_is_its_luminance(mixed: Model) -> None:
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 255, (5, 32, 32, 3)).astype(np.uint8)
    grey = (colours @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.float32)
    flat = np.repeat(box((32, 32), (8, 20), (8, 20))[None], 5, axis=0)
    image = image_of(flat, ("t", "y", "x"))
    labels = painted_on(image, {1: flat}, "t", [2])
    found = ms.propagate(image.replace(data=colours, axes=("t", "y", "x", "c")), labels, mixed)
    assert found.labels.axes == ("t", "y", "x")
    assert np.array_equal(data_of(found), data_of(ms.propagate(image.replace(data=grey), labels, mixed)))


# -- odd input ---------------------------------------------------------------------------------------------------------
def test_a_single_slice_is_what_is_painted(plain: Model) -> None:
    mask = box((1, 32, 32), (0, 1), (8, 20), (8, 20))
    for image, drawn in (
        (image_of(mask), mask),
        (image_of(mask[0], ("y", "x")), mask[0]),
    ):
        labels = image.labels_like(drawn.astype(np.uint8) * 2, name="painted", label_names={2: "a"})
        found = ms.propagate(image, labels, plain)
        assert np.array_equal(data_of(found), drawn * 2)
        assert found.next_step is None


def test_a_shape_at_the_edge_and_one_voxel(plain: Model) -> None:
    edge = box((5, 32, 32), (0, 5), (0, 12), (20, 32))
    image = image_of(edge)
    assert np.array_equal(data_of(ms.propagate(image, painted_on(image, {1: edge}, "z", [2]), plain)) > 0, edge)
    dot = box((5, 32, 32), (2, 3), (16, 17), (16, 17))
    data = data_of(ms.propagate(image, painted_on(image, {1: dot}, "z", [2]), plain))
    assert data[2].sum() == 1
    assert data[1, 16, 16] == 1


def test_everything_painted_everywhere(plain: Model) -> None:
    whole = np.ones((4, 24, 24), bool)
    image = image_of(whole)
    assert data_of(ms.propagate(image, painted_on(image, {1: whole}, "z", [1]), plain)).all()


@pytest.mark.parametrize("mark", [np.nan, -3.4e38, 3.4e38])  # the last two mark what was not measured
def test_voxels_that_are_no_intensities(plain: Model, mark: float) -> None:
    image = image_of(TUBE)
    broken = np.array(image.data)
    broken[4, 20:24, 10:30] = mark
    broken[5, 0, 0], broken[5, 0, 1] = np.inf, -np.inf
    broken[7] = mark
    labels = painted_on(image, {1: TUBE}, "z", [2, 6])
    data = data_of(ms.propagate(image.replace(data=broken), labels, plain))
    assert np.array_equal(data[4] > 0, TUBE[4])


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_constant_image(plain: Model, value: float) -> None:
    image = image_of(TUBE)
    labels = painted_on(image, {1: TUBE}, "z", [2, 6])
    data = data_of(ms.propagate(image.replace(data=np.full(TUBE.shape, value)), labels, plain))
    assert np.array_equal(data[4] > 0, TUBE[4])


def test_bad_prompts_are_named(plain: Model) -> None:
    image = image_of(TUBE)
    labels = painted_on(image, {1: TUBE}, "z", [2])
    empty = labels.replace(data=np.zeros(TUBE.shape, np.uint8))
    with pytest.raises(MedseqError, match="is empty"):
        ms.propagate(image, empty, plain)
    with pytest.raises(GeometryError, match="another grid"):
        ms.propagate(image, labels.replace(affine=affine_from((1, 1, 3))), plain)
    with pytest.raises(MedseqError, match="positive numbers"):
        ms.propagate(image, labels.replace(data=-np.asarray(labels.data).astype(np.int16)), plain)
    with pytest.raises(MedseqError, match="whole numbers"):
        ms.propagate(image, image, plain)
    with pytest.raises(MedseqError, match="paint"):
        ms.propagate(image, [], plain)
    other = labels.replace(data=np.asarray(labels.data) * 2)
    with pytest.raises(MedseqError, match="1 and 2 are both painted on voxel"):
        ms.propagate(image, [labels, other], plain)
    elsewhere = painted_on(image, {2: TUBE}, "z", [6])
    assert set(np.unique(data_of(ms.propagate(image, [labels, elsewhere], plain)))) == {0, 1, 2}
    wide = [s.replace(data=np.asarray(s.data).astype(t)) for s, t in ((labels, np.uint64), (elsewhere, np.int64))]
    assert data_of(ms.propagate(image, wide, plain)).dtype == np.int64


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"annotated": [9]}, "steps 0 to 8"),
        ({"annotated": [-1]}, "steps 0 to 8"),
        ({"annotated": {7: [1]}}, "object 7"),
        ({"annotated": {1: [40]}}, "not .40"),
        ({"steps": [12]}, "steps 0 to 8"),
        ({"steps": [1.5]}, "not .1.5"),
        ({"axis": "t"}, "no planes along 't'"),
        ({"axis": "q"}, "choose from z, y, x"),
        ({"transforms": [None]}, "transforms are for visits"),
    ],
)
def test_bad_options_are_named(plain: Model, options: dict[str, Any], text: str) -> None:
    image = image_of(TUBE)
    with pytest.raises(MedseqError, match=text):
        ms.propagate(image, painted_on(image, {1: TUBE}, "z", [2]), plain, **options)


def test_other_models_and_devices_are_refused(plain: Model, tmp_path: Path) -> None:
    image = image_of(TUBE)
    labels = painted_on(image, {1: TUBE}, "z", [2])
    with pytest.raises(ModelError, match="cannot take painted steps"):
        ms.propagate(image, labels, small.model(tmp_path / "m"))
    with pytest.raises(DeviceError, match="not a device"):
        ms.propagate(image, labels, plain, device="toaster")
    with pytest.raises(ModelError, match="margin"):
        ms.propagate(image, labels, prompted_model(tmp_path / "odd", margin=-1))


def test_it_is_watched_and_stopped(plain: Model) -> None:
    image = image_of(TUBE)
    labels = painted_on(image, {1: TUBE}, "z", [2])
    told: list[tuple[int, int, str]] = []
    ms.propagate(image, labels, plain, progress=lambda *a: told.append(a))
    assert told[-1][:2] == (1, 1)
    with pytest.raises(OperationCancelled):
        ms.propagate(image, labels, plain, cancelled=lambda: True)


def test_pieces_that_hang_on_nothing_painted_are_dropped_where_asked(tmp_path: Path) -> None:
    image = image_of(TUBE)
    labels = painted_on(image, {1: TUBE}, "z", [2])
    drawn = np.asarray(labels.data) > 0

    def loose(found: ms.Propagation) -> int:
        """Voxels of pieces that hang on nothing painted."""
        parts, _ = ndimage.label(data_of(found) > 0, structure=np.ones((3, 3, 3)))
        return int(((parts > 0) & ~np.isin(parts, np.unique(parts[drawn]))).sum())

    network = prompted_network()
    torch.nn.init.zeros_(network.trust)  # noise, without the interpolated shape
    torch.nn.init.constant_(of(torch.Tensor, network.heads[0].bias), -10)
    free = loose(ms.propagate(image, labels, prompted_model(tmp_path / "free", network)))
    strict = loose(ms.propagate(image, labels, prompted_model(tmp_path / "strict", network, connected=True)))
    assert strict < free / 10  # pieces are those of the window, whose pixels are smaller than the image's


# -- visits ------------------------------------------------------------------------------------------------------------
def visit(image: ImageSequence, day: int) -> Visit:
    return Visit(date(2020, 1, day), (image,))


def test_a_mask_is_carried_to_a_later_visit_on_another_grid(plain: Model) -> None:
    grids = np.meshgrid(*[np.linspace(-1, 1, n) for n in (10, 40, 40)], indexing="ij")
    ball = np.asarray(np.square(grids).sum(axis=0) < 0.3)
    first = image_of(ball, affine=affine_from((1, 1, 4)), name="first")
    later = first.replace(
        data=first.data[:, 4:36, 4:36] * 2 + 5, affine=affine_from((1, 1, 4), (-4, -4, 0)), name="later"
    )
    labels = first.labels_like(ball.astype(np.uint8), name="mask", label_names={1: "a"})
    visits = [visit(first, 1), visit(later, 8)]
    transforms = [None, None]
    for prompts in (labels, [labels, None]):
        found = ms.propagate(visits, prompts, plain, transforms=transforms)
        assert np.array_equal(data_of(found[0]), np.asarray(labels.data))
        assert found[1].labels.same_grid(later)
        assert np.array_equal(data_of(found[1]) > 0, ball[:, 4:36, 4:36])


def test_a_mask_on_the_grid_of_several_visits_is_not_given_to_any_of_them(plain: Model) -> None:
    image = image_of(TUBE)
    labels = painted_on(image, {1: TUBE}, "z", [2])
    visits = [visit(image, 1), visit(image.replace(name="second"), 2)]
    with pytest.raises(MedseqError, match="grid of several visits"):
        ms.propagate(visits, labels, plain, transforms=[None, None])
    of_second = labels.replace(acquired=datetime(2020, 1, 2, 12))
    found = ms.propagate(visits, of_second, plain, transforms=[None, None])
    assert np.array_equal(data_of(found[1]), np.asarray(labels.data))


def test_visits_that_do_not_fit_are_named(plain: Model) -> None:
    image = image_of(TUBE)
    labels = painted_on(image, {1: TUBE}, "z", [2])
    visits = [visit(image, 1), visit(image, 2)]
    with pytest.raises(MedseqError, match="grid of no visit"):
        ms.propagate(visits, labels.replace(affine=affine_from((1, 1, 3))), plain, transforms=[None, None])
    with pytest.raises(MedseqError, match="1 label image for 2 visits"):
        ms.propagate(visits, [labels], plain, transforms=[None, None])
    with pytest.raises(MedseqError, match="No visit is painted"):
        ms.propagate(visits, [None, None], plain, transforms=[None, None])
    with pytest.raises(MedseqError, match="for one image"):
        ms.propagate(visits, labels, plain, axis="z")


# -- what carries ------------------------------------------------------------------------------------------------------
def test_a_volume_network_carries_too(tmp_path: Path) -> None:
    from napari_medseq.models import bundle, load_model
    from napari_medseq.models.prompted_volume import PromptedVolumeUNet

    bundle.write_bundle(
        tmp_path / "volume",
        facts={"name": "volume", "task": "propagation"},
        network={"_target_": "PromptedVolumeUNet", "widths": [4, 4, 4, 4]},
        inference={},
        weights=PromptedVolumeUNet(widths=(4, 4, 4, 4)).state_dict(),
        card="# untrained\n",
        licence_text="BSD\n",
        description="untrained",
        licence="BSD-3-Clause",
        version="0",
    )
    image = image_of(TUBE)
    data = data_of(ms.propagate(image, painted_on(image, {1: TUBE}, "z", [2, 6]), load_model(tmp_path / "volume")))
    assert np.array_equal(data[4] > 0, TUBE[4])
