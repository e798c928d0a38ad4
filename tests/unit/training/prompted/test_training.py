"""Training of a prompted network: what is an example, what is painted on it, and a run that goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_medseq.errors import GeometryError, MedseqError, OperationCancelled
from napari_medseq.models.prompted_unet import PromptedUNet
from napari_medseq.models.prompting import PromptedSequence
from napari_medseq.sequence import ImageSequence, affine_from
from napari_medseq.training.prompted import training
from napari_medseq.training.prompted.augment import bending, drawn_shapes, invented, likely_gap, parts, spoiled, walls
from napari_medseq.training.prompted.painting import even_steps, hurried, painted_steps
from napari_medseq.training.prompted.structures import PromptedCase, Structure, prompted_case
from napari_medseq.training.prompted.training import (
    PromptedBatch,
    PromptTrainSettings,
    draw_batch,
    fit_prompted,
    prompted_loss,
)
from napari_medseq.training.prompted.windows import PlacedWindow, cut_windows, place_window
from tests.unit.models.prompted import SMALL

CPU = torch.device("cpu")


def image_and_labels() -> tuple[ImageSequence, ImageSequence]:
    """Two blobs of class 1, one of class 2, in noise."""
    drawn = np.zeros((12, 48, 48), np.uint8)
    drawn[2:8, 6:18, 6:18] = 1
    drawn[5:10, 28:40, 8:20] = 1
    drawn[3:9, 20:40, 28:44] = 2
    noise = np.random.default_rng(0).normal(0, 10, drawn.shape)
    image = ImageSequence((drawn * 80 + 60 + noise).astype(np.float32), ("z", "y", "x"), affine_from((1, 1, 2)))
    return image, image.labels_like(drawn, name="labels", label_names={1: "a", 2: "b"})


def case() -> PromptedCase:
    image, labels = image_and_labels()
    return prompted_case(image, labels, rng=np.random.default_rng(0), device=CPU)


# -- structures --------------------------------------------------------------------------------------------------------
def test_classes_components_and_unions_are_structures() -> None:
    one = case()
    drawn = np.asarray(image_and_labels()[1].data)

    def mask(s: Structure) -> bytes:
        return bytes(np.isin(one.parts.numpy(), s.values))

    found = {mask(s) for s in one.labelled}
    pieces, _ = ndimage.label(drawn == 1)
    expected = [drawn == 1, drawn == 2, drawn > 0, pieces == 1, pieces == 2]
    assert found == {bytes(e) for e in expected}
    whole = next(s for s in one.labelled if mask(s) == bytes(drawn == 2))
    assert whole.box.tolist() == [[3, 9], [20, 40], [28, 44]]


def test_many_components_and_classes_share_the_numbers_of_a_byte() -> None:
    drawn = np.zeros((4, 120, 160), np.int64)
    for k in range(280):  # components of 48 voxels, of which the first class has 261
        y, x = divmod(k, 20)
        drawn[:, 8 * y : 8 * y + 4, 8 * x : 8 * x + 3] = max(1, k - 259)
    grid = affine_from((1, 1, 1))
    image = ImageSequence(np.random.default_rng(0).normal(size=drawn.shape).astype(np.float32), ("z", "y", "x"), grid)
    labels = image.labels_like(drawn, name="many", label_names={})
    one = prompted_case(image, labels, rng=np.random.default_rng(0), device=CPU)
    classes = one.labelled[:1] + [
        s for s in one.labelled if (np.isin(one.parts.numpy(), s.values) == (drawn == 20)).all()
    ]
    assert [int(np.isin(one.parts.numpy(), s.values).sum()) for s in classes] == [261 * 48, 48]
    assert ((one.parts.numpy() > 0) == (drawn > 0)).all()
    every = image.labels_like(np.arange(drawn.size).reshape(drawn.shape) % 301, name="many", label_names={})
    with pytest.raises(MedseqError, match="300 classes"):
        prompted_case(image, every, rng=np.random.default_rng(0), device=CPU)


def test_structures_are_found_without_labels() -> None:
    one = case()
    assert one.unlabelled
    for s in one.unlabelled:
        inside = np.isin(one.found.numpy(), s.values)
        assert np.ptp(np.argwhere(inside), axis=0).tolist() == (s.box[:, 1] - s.box[:, 0] - 1).tolist()
        assert inside.sum() >= 40


def test_a_margin_crops_the_plane_and_a_window_sets_black_and_white() -> None:
    image, labels = image_and_labels()
    one = prompted_case(image, labels, rng=np.random.default_rng(0), device=CPU, window=(60, 140), margin=3)
    assert one.image.shape == (12, 40, 44)
    assert (int(one.image.min()), int(one.image.max())) == (0, 255)


def test_cases_that_teach_nothing_are_named() -> None:
    image, labels = image_and_labels()
    rng = np.random.default_rng(0)
    with pytest.raises(MedseqError, match="labels nothing"):
        prompted_case(image, labels.replace(data=np.zeros_like(labels.data)), rng=rng, device=CPU)
    with pytest.raises(GeometryError, match="another grid"):
        prompted_case(image, labels.replace(affine=affine_from((1, 1, 3))), rng=rng, device=CPU)
    with pytest.raises(MedseqError, match="axes"):
        prompted_case(image.replace(data=image.data[0], axes=("y", "x")), labels, rng=rng, device=CPU)


# -- windows -----------------------------------------------------------------------------------------------------------
def test_a_window_that_is_not_turned_is_the_image_itself() -> None:
    one = case()
    structure = max(one.labelled, key=lambda s: len(s.values))
    place = PlacedWindow(
        one, structure, 0, np.arange(4, 8), np.ones(4, bool), (23.5, 23.5), np.eye(2, dtype=np.float32), 2.0
    )
    image, mask = cut_windows([place], 32, torch.zeros(1, 4, 2, 32, 32))
    assert torch.allclose(image[0], one.image[4:8, 8:40, 8:40] / 255, atol=1e-5)
    drawn = torch.from_numpy(np.isin(one.parts.numpy(), structure.values))
    assert torch.equal(mask[0], drawn[4:8, 8:40, 8:40])


@pytest.mark.parametrize("seed", range(6))
def test_every_window_holds_some_of_its_structure(seed: int) -> None:
    rng = np.random.default_rng(seed)
    places = [place_window({"a": [case()]}, {"a": 1.0}, 8, 32, rng) for _ in range(4)]
    image, mask = cut_windows(places, 32, torch.zeros(4, 8, 2, 32, 32))
    assert mask.flatten(1).any(1).all()
    assert torch.isfinite(image).all()
    for place in places:
        assert 0 <= place.steps.min() <= place.steps.max() < place.case.image.shape[place.axis]


def test_a_wall_surrounds_its_structure() -> None:
    y, x = torch.meshgrid(torch.arange(64.0) - 32, torch.arange(64.0) - 32, indexing="ij")
    distance = (y.square() + x.square()).sqrt()
    ball = (distance < 12).expand(40, 3, 64, 64)
    image = torch.where(distance < 17, 0.8, 0.1).expand(40, 3, 64, 64) + 0.02 * torch.rand(40, 3, 64, 64)
    wall = walls(image, ball, share=1.0)
    assert not (wall & ball).any()
    next_to = wall[..., (distance > 12.5) & (distance < 15)]
    assert (next_to.float().mean((1, 2)) > 0.5).all()
    reach = torch.where(wall, distance, 0.0).amax((1, 2, 3))
    assert (reach > 13).all()
    assert (reach < 21).all()
    assert (reach > 18).any()  # even rims
    assert ((reach > 16) & (reach < 17.5)).any()  # walls that end where the image shows it


def test_small_structures_and_a_share_keep_their_masks() -> None:
    image = torch.rand(30, 2, 32, 32)
    dot = torch.zeros(30, 2, 32, 32, dtype=torch.bool)
    dot[:, 0, 10:13, 10:13] = True
    assert torch.equal(walls(image, dot, share=1.0), dot)
    block = torch.zeros_like(dot)
    block[:, :, 8:20, 8:20] = True
    assert torch.equal(walls(image, block, share=0.0), block)
    replaced = (walls(image, block, share=0.5) != block).flatten(1).any(1)
    assert replaced.any()
    assert not replaced.all()


def test_without_structures_there_is_no_window() -> None:
    one = case()
    empty = PromptedCase(one.name, one.image, one.parts, one.found, one.spacing, [], [])
    with pytest.raises(MedseqError, match="No structure fits"):
        place_window({"a": [empty]}, {"a": 1.0}, 8, 32, np.random.default_rng(0))


# -- prompts and spoiling ----------------------------------------------------------------------------------------------
def test_even_steps_are_those_of_the_protocol() -> None:
    area = np.zeros(40)
    area[10:28] = 50
    area[15] = 60
    assert even_steps(area, 1) == [15]
    assert even_steps(area, 3) == [12, 18, 24]
    assert len(even_steps(area, 5)) == 5


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=4, max_size=24), st.integers(0, 1000))
def test_painted_steps_are_real_and_not_only_empty(areas: list[int], seed: int) -> None:
    area = np.array(areas, float)
    steps = painted_steps(area, np.random.default_rng(seed))
    assert (steps == []) == (area.max() < 6)
    assert len(set(steps)) == len(steps)
    assert all(0 <= s < len(area) for s in steps)
    assert not steps or area[steps].max() >= 6


def test_no_hurried_mask_vanishes() -> None:
    torch.manual_seed(0)
    masks = torch.zeros(64, 24, 24, dtype=torch.bool)
    masks[:, 10:12, 10:13] = True
    made = hurried(masks, share=1.0)
    assert made.flatten(1).any(1).all()
    assert not torch.equal(made, masks)
    assert hurried(masks[:0]).shape == (0, 24, 24)


def test_what_is_drawn_and_spoiled_are_numbers() -> None:
    torch.manual_seed(0)
    real = torch.rand(8, 8, 32, 32)
    image, mask = invented(real)
    assert mask.flatten(1).any(1).any()
    assert torch.isfinite(spoiled(image)).all()
    assert torch.isfinite(drawn_shapes(4, 8, 32, CPU)).all()
    shift = bending(16, 8, 32, CPU)
    assert shift.shape == (16, 8, 2, 32, 32)
    assert float(shift.abs().max()) < 32


# -- the run -----------------------------------------------------------------------------------------------------------
@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "SHAPES", ((6, 32),))


SETTINGS = PromptTrainSettings(minutes=1000, windows=8, average=0.5)


@pytest.mark.usefixtures("small_windows")
def test_the_loss_is_of_steps_that_are_not_annotated() -> None:
    torch.manual_seed(0)
    batch = draw_batch({"a": [case()]}, {"a": 1.0}, SETTINGS, np.random.default_rng(0), CPU)
    assert batch.sequence.annotated.any(1).all()
    sure = torch.where(batch.truth, 20.0, -20.0)
    assert float(prompted_loss([sure], batch)) < 0.01
    flags = batch.sequence.annotated[..., None, None]
    assert float(prompted_loss([torch.where(flags, -sure, sure)], batch)) < 0.01
    assert float(prompted_loss([torch.where(flags, sure, -sure)], batch)) > 1


def test_steps_beyond_the_image_are_neither_painted_nor_counted() -> None:
    truth = torch.zeros(1, 6, 16, 16, dtype=torch.bool)
    truth[:, 1:, 4:12, 4:12] = True
    real = np.array([True, True, True, True, False, False])
    for seed in range(20):
        steps = painted_steps(truth[0].flatten(1).sum(1).numpy().astype(float), np.random.default_rng(seed), real)
        assert steps
        assert real[steps].all()
    annotated = torch.tensor([[False, False, True, False, False, False]])
    sequence = PromptedSequence.of(torch.rand(truth.shape), truth, annotated, torch.zeros(1))
    batch = PromptedBatch(sequence, truth, torch.from_numpy(real)[None], torch.tensor([True]))
    logits = torch.where(truth, 20.0, -20.0)
    logits[:, 4:] *= -1
    assert float(prompted_loss([logits], batch)) < 0.01


def test_parts_are_what_lies_on_one_side_of_a_plane() -> None:
    torch.manual_seed(0)
    mask = torch.zeros(32, 8, 24, 24, dtype=torch.bool)
    mask[:, 1:7, 4:20, 4:20] = True
    made = parts(mask, share=1.0)
    assert (made & ~mask).sum() == 0
    assert (made.flatten(1).sum(1) >= 60).all()
    assert (made != mask).flatten(1).any(1).sum() > 24
    whole, cut = (m.flatten(1).float() for m in (mask, made))
    places = torch.stack(torch.meshgrid(*(torch.arange(n) for n in mask.shape[1:]), indexing="ij")).flatten(1).float()
    apart = [
        places[:, m > 0].mean(1) - places[:, w > m].mean(1) for w, m in zip(whole, cut, strict=True) if (w > m).any()
    ]
    assert min(float(a.norm()) for a in apart) > 1  # the two sides do not mix


def test_drawn_shapes_are_about_as_long_as_wide() -> None:
    torch.manual_seed(0)
    mask = torch.zeros(200, 10, 32, 32, dtype=torch.bool)
    mask[:, 2:8, 8:24, 8:24] = True
    gap = likely_gap(mask)
    known = gap[gap > 0]
    assert 60 < len(known) < 140
    across = 2 * (256 / np.pi) ** 0.5
    assert float(known.log().mean().exp()) == pytest.approx(across / 6, rel=0.2)


def test_sequences_in_which_nothing_is_left_do_not_count() -> None:
    truth = torch.zeros(2, 3, 16, 16, dtype=torch.bool)
    truth[:, :, 4:12, 4:12] = True
    annotated = torch.tensor([[True, False, False]] * 2)
    sequence = PromptedSequence.of(torch.rand(truth.shape), truth, annotated, torch.zeros(2))
    real = torch.ones_like(annotated)
    logits = torch.where(truth, 20.0, -20.0)
    logits[1] *= -1
    both, first = (PromptedBatch(sequence, truth, real, torch.tensor([True, k])) for k in (True, False))
    assert float(prompted_loss([logits], first)) < 0.01 < float(prompted_loss([logits], both))


@pytest.mark.usefixtures("small_windows")
def test_it_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    groups, shares = {"a": [case()]}, {"a": 1.0}
    torch.manual_seed(0)
    network = PromptedUNet(**SMALL)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    asked = iter([False] * 11 + [True])
    with pytest.raises(OperationCancelled):
        fit_prompted(network, groups, shares, SETTINGS, tmp_path, device=CPU, cancelled=lambda: next(asked))
    assert any(not torch.equal(v, before[k]) for k, v in network.state_dict().items())
    told: list[str] = []
    again = iter([False] * 3 + [True])
    with pytest.raises(OperationCancelled):
        fit_prompted(
            PromptedUNet(**SMALL), groups, shares, SETTINGS, tmp_path, device=CPU,
            progress=lambda *a: told.append(a[2]), cancelled=lambda: next(again),
        )  # fmt: skip
    assert told == ["iteration 12", "iteration 13", "iteration 14"]
    assert len((tmp_path / "curve.csv").read_text().splitlines()) == 2


@pytest.mark.usefixtures("small_windows")
def test_it_learns_and_ends_with_its_budget(tmp_path: Path) -> None:
    short = PromptTrainSettings(minutes=0.02, windows=8)
    torch.manual_seed(0)
    weights = fit_prompted(PromptedUNet(**SMALL), {"a": [case()]}, {"a": 1.0}, short, tmp_path, device=CPU)
    PromptedUNet(**SMALL).load_state_dict(weights)
    assert all(torch.isfinite(v).all() for v in weights.values())
