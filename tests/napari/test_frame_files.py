"""A folder of numbered pictures is one sequence of frames, with the labels that lie beside it; other pictures stay what they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from PIL import Image

from napari_medseq import viewer as verbs
from napari_medseq.viewer.opening import layer_data

pytestmark = pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")
NUMBERS = (1, 3, 4, 10)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Four frames of 6 × 8 pixels in colour, and a mask for each."""
    for n in NUMBERS:
        for kind, array in (
            ("frames", np.full((6, 8, 3), (n, 2 * n, 200), np.uint8)),
            ("labels", np.eye(6, 8, n % 3, np.uint8)),
        ):
            (tmp_path / "seq" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / "seq" / kind / f"{n:04}.png")
    return tmp_path / "seq"


def test_numbered_pictures_and_their_labels_are_two_sequences_of_frames(video: Path) -> None:
    viewer = ViewerModel()
    frames, labels = verbs.open_path(viewer, video)
    assert [layer.name for layer in viewer.layers] == ["seq frames", "seq labels"]
    assert frames.rgb
    assert frames.data[:, 0, 0, 0].tolist() == list(NUMBERS)  # in their order, none left out
    assert [int(np.argmax(mask[0])) for mask in labels.data] == [n % 3 for n in NUMBERS]
    seq = verbs.to_sequence(frames)
    assert seq.axes == ("t", "y", "x", "c")
    assert seq.times is not None
    assert seq.times.tolist() == [0, 2, 3, 9]
    assert any("numbers" in doubt for doubt in seq.warnings)
    assert viewer.dims.axis_labels[0] == "t"
    viewer.dims.set_current_step(0, 2)
    assert verbs.identity(viewer) == ["seq", "no date", "frames", "frame 3 of 4"]


def test_a_session_brings_frames_back_whole(video: Path, tmp_path: Path) -> None:
    viewer, again = ViewerModel(), ViewerModel()
    frames, _ = verbs.open_path(viewer, video)
    verbs.open_session(again, verbs.save_session(viewer, tmp_path / "s.medseq"))
    assert np.array_equal(again.layers["seq frames"].data, frames.data)
    assert verbs.to_sequence(again.layers["seq frames"]).axes == ("t", "y", "x", "c")


def test_pictures_that_are_no_frames_of_one_sequence_stay_single(tmp_path: Path) -> None:
    for name, size in (("a1", 8), ("a2", 9), ("a3", 10), ("b", 8), ("c7", 8), ("c8", 8)):
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (size, 8), np.uint8)).save(tmp_path / f"{name}.png")
    shapes = [data.shape for data, _, _ in layer_data(sorted(tmp_path.glob("*.png")))]
    assert sorted(shapes) == [(8, 8)] * 4 + [(9, 8), (10, 8)]


def test_frames_that_are_dropped_as_files_are_a_sequence_too(video: Path) -> None:
    ((data, _, _),) = layer_data(sorted((video / "frames").glob("*.png")))
    assert data.shape == (4, 6, 8, 3)


def test_a_mask_is_painted_on_a_video_frame_by_frame(video: Path) -> None:
    viewer = ViewerModel()
    frames, _ = verbs.open_path(viewer, video)
    painted = verbs.new_labels(viewer, frames)
    assert painted.data.shape == (4, 6, 8)
    assert not verbs.why_not_together(frames, painted)
    painted.paint((2, 3, 3), 1)
    assert verbs.painted_slices(painted) == [2]
    assert verbs.to_sequence(painted).times is not None
