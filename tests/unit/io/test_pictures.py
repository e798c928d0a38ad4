"""Pictures, video and FreeSurfer volumes: opened unoriented or in place, refused when damaged."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

import napari_medseq as ms
from napari_medseq.errors import ReadError, ReadWarning
from tests.unit.io import dicoms
from tests.unit.io.dicoms import item


@pytest.mark.parametrize("ending", [".png", ".bmp"])
def test_pictures(tmp_path: Path, ending: str) -> None:
    colour = np.random.default_rng(0).integers(0, 255, (6, 8, 3)).astype(np.uint8)
    Image.fromarray(colour).save(tmp_path / f"a{ending}")
    Image.fromarray(colour[..., 0]).save(tmp_path / f"b{ending}")
    with pytest.warns(ReadWarning, match="millimetres"):
        a, b = ms.read([tmp_path / f"a{ending}", tmp_path / f"b{ending}"])
    assert (a.axes, a.oriented) == (("y", "x", "c"), False)
    assert np.array_equal(a.data, colour)
    assert (b.axes, b.name) == (("y", "x"), "b")
    assert np.array_equal(b.data, colour[..., 0])


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.ReadWarning")
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif"])
def test_a_picture_is_turned_as_viewers_show_it(tmp_path: Path, ending: str, orientation: int) -> None:
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :8], pixels[8:, 16:] = (200, 0, 0), (0, 120, 0)
    path = tmp_path / f"a{ending}"
    if ending == ".tif":
        tags = [(274, "H", 1, orientation, True)]
        tifffile.imwrite(path, pixels, photometric="rgb", extratags=tags, metadata=None)
    else:
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(pixels).save(path, exif=exif, quality=95, subsampling=0)
    with Image.open(path) as stored:
        stored.load()  # by which newer versions of Pillow turn a TIFF
        expected = np.asarray(ImageOps.exif_transpose(stored))
    (seq,) = ms.read(path)
    np.testing.assert_array_equal(seq.data, expected)
    assert any("was turned" in w for w in seq.warnings) == (orientation > 1)
    (facts,) = ms.info(path)["series"]
    assert facts["shape"] == [seq.size("x"), seq.size("y")]


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.ReadWarning")
@pytest.mark.parametrize("ending", [".gif", ".png"])
@pytest.mark.parametrize("coloured", [False, True])
def test_animated_pictures_are_frames(tmp_path: Path, ending: str, coloured: bool) -> None:
    grey = [np.full((6, 8), 50 * k, np.uint8) for k in range(4)]
    frames = [np.stack([f, f // 2, f], -1) if coloured else f for f in grey]
    first, *rest = [Image.fromarray(f) for f in frames]
    first.save(tmp_path / f"a{ending}", save_all=True, append_images=rest, duration=[100, 200, 300, 400])
    (seq,) = ms.read(tmp_path / f"a{ending}")
    assert seq.axes == (("t", "y", "x", "c") if coloured else ("t", "y", "x"))
    assert seq.times == pytest.approx([0, 0.1, 0.3, 0.6])
    np.testing.assert_allclose(seq.data, np.stack(frames), atol=1)
    (facts,) = ms.info(tmp_path / f"a{ending}")["series"]
    assert (facts["shape"], facts["frames"]) == ([8, 6, 1, 4], 4)


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.ReadWarning")
def test_a_screenshot_in_grey_is_grey_though_it_is_stored_with_opacity(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 255, (6, 8)).astype(np.uint8)
    opaque = np.dstack([grey, grey, grey, np.full_like(grey, 255)])
    Image.fromarray(opaque).save(tmp_path / "a.png")
    np.testing.assert_array_equal(ms.read(tmp_path / "a.png")[0].data, grey)


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.ReadWarning")
def test_a_mask_picture_is_labels_and_a_damaged_one_refused(tmp_path: Path) -> None:
    Image.fromarray(np.eye(5, dtype=np.uint8)).save(tmp_path / "x_mask.png")
    assert ms.read(tmp_path / "x_mask.png")[0].kind == "labels"
    (tmp_path / "bad.png").write_bytes((tmp_path / "x_mask.png").read_bytes()[:40])
    with pytest.raises(ReadError, match="damaged"):
        ms.read(tmp_path / "bad.png")


def test_a_thumbnail_beside_a_scan_is_no_image(tmp_path: Path) -> None:
    dicoms.series(tmp_path, [(0, 0, 2.5 * k) for k in range(3)])
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "thumb.png")
    assert len(ms.read(tmp_path)) == 1


def test_video_or_what_to_install(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"\0\0\0\x20ftypisom" + b"\0" * 40)
    with pytest.raises(ReadError, match=r"damaged|pip install av"):
        ms.read(path)


def test_video_frames(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for k in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 40 * k, np.uint8), format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    with pytest.warns(ReadWarning, match="millimetres"):
        seq = ms.read(tmp_path / "a.mp4")[0]
    assert seq.size("t") == 5
    assert seq.times == pytest.approx(np.arange(5) / 10, abs=0.02)


def test_freesurfer_volumes(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    affine = np.array([[-1.0, 0, 0, 5], [0, 0, 1, -6], [0, -1, 0, 7], [0, 0, 0, 1]])
    nib.save(nib.MGHImage(array, affine), tmp_path / "aseg.mgz")
    (seq,) = ms.read(tmp_path / "aseg.mgz")
    assert (seq.kind, seq.modality) == ("labels", "MR")
    for index in ((0, 0, 0), (1, 2, 3)):
        house = np.rint(np.linalg.solve(seq.affine, affine @ [*index, 1])[:3]).astype(int)
        assert seq.data[house[2], house[1], house[0]] == array[index]
    assert ms.info(tmp_path / "aseg.mgz")["series"][0]["shape"] == [2, 3, 4]
    (tmp_path / "cut.mgz").write_bytes((tmp_path / "aseg.mgz").read_bytes()[:60])
    with pytest.raises(ReadError, match=r"cut\.mgz"):
        ms.read(tmp_path / "cut.mgz")


def test_ultrasound_regions_give_millimetres(tmp_path: Path) -> None:
    region = item(PhysicalUnitsXDirection=3, PhysicalUnitsYDirection=3, PhysicalDeltaX=0.02, PhysicalDeltaY=0.03)
    ds = dicoms.dataset(
        dicoms.picture(), None, None, None, Modality="US", SequenceOfUltrasoundRegions=[region], SliceThickness=None
    )
    (seq,) = ms.read(dicoms.save(ds, tmp_path / "us"))
    assert [seq.spacing["x"], seq.spacing["y"]] == pytest.approx([0.2, 0.3])


def test_info_of_every_kind(tmp_path: Path) -> None:
    seq = ms.ImageSequence(np.zeros((2, 3, 4, 5), np.int16), ("t", "z", "y", "x"), np.eye(4))
    for ending in (".nii.gz", ".nrrd", ".mha"):
        (entry,) = ms.info(ms.write(seq, tmp_path / f"a{ending}"))["series"]
        assert (entry["shape"], entry["frames"], entry["kind"]) == ([5, 4, 3, 2], 2, "image")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReadError, match="no image"):
        ms.info(tmp_path / "empty")
