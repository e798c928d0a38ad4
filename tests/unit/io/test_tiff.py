"""TIFF as ImageJ, OME and others write it: axes, sizes, times; what is damaged or no image sequence is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import napari_medseq as ms
from napari_medseq.errors import ReadError
from napari_medseq.geometry import spacing

pytestmark = pytest.mark.filterwarnings("ignore::napari_medseq.errors.ReadWarning")
RANDOM = np.random.default_rng(0)


def pixels(*shape: int, kind: type[np.generic] = np.uint16) -> np.ndarray[tuple[int, ...], np.dtype[Any]]:
    return RANDOM.integers(0, 200, shape).astype(kind)


def test_a_stack_of_imagej_with_times(tmp_path: Path) -> None:
    values = pixels(3, 4, 5, 6)
    facts = {"axes": "TZYX", "unit": "mm", "spacing": 2.5, "finterval": 1.5}
    tifffile.imwrite(tmp_path / "a.tif", values, imagej=True, resolution=(1 / 0.5, 1 / 0.25), metadata=facts)
    (seq,) = ms.read(tmp_path / "a.tif")
    assert (seq.axes, seq.name) == (("t", "z", "y", "x"), "a")
    np.testing.assert_array_equal(seq.data, values)
    np.testing.assert_allclose(spacing(seq.affine), (0.5, 0.25, 2.5), rtol=1e-6)
    assert seq.times is not None
    np.testing.assert_allclose(seq.times, (0, 1.5, 3.0))
    assert not seq.warnings


@pytest.mark.parametrize(
    ("unit", "seconds"), [("ms", 0.05), ("sec", 50.0), ("min", 3000.0), ("\\u00B5s", 5e-5), ("moons", None)]
)
def test_times_of_imagej_have_a_unit(tmp_path: Path, unit: str, seconds: float | None) -> None:
    facts = {"axes": "TYX", "unit": "mm", "finterval": 50.0, "tunit": unit}
    tifffile.imwrite(tmp_path / "a.tif", pixels(3, 5, 6), imagej=True, resolution=(2, 2), metadata=facts)
    (seq,) = ms.read(tmp_path / "a.tif")
    assert seq.times is not None
    np.testing.assert_allclose(seq.times, np.arange(3) * (seconds or 1.0))
    assert any("time between frames" in w for w in seq.warnings) == (seconds is None)


def test_times_of_ome_have_a_unit(tmp_path: Path) -> None:
    facts = {
        "axes": "TYX",
        "PhysicalSizeX": 1.0,
        "PhysicalSizeY": 1.0,
        "TimeIncrement": 40.0,
        "TimeIncrementUnit": "ms",
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels(2, 5, 6), metadata=facts)
    (seq,) = ms.read(tmp_path / "a.ome.tif")
    assert seq.times is not None
    np.testing.assert_allclose(seq.times, (0, 0.04))


def test_micrometres_of_imagej_are_millimetres(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels(5, 6), imagej=True, resolution=(2, 2), metadata={"unit": "micron"})
    np.testing.assert_allclose(spacing(ms.read(tmp_path / "a.tif")[0].affine)[:2], 5e-4, rtol=1e-6)


def test_an_ome_tiff_has_axes_spacing_and_times(tmp_path: Path) -> None:
    values = pixels(2, 4, 5, 6)
    sizes = {f"PhysicalSize{a}": v for a, v in zip("XYZ", (0.5, 0.75, 2.0), strict=True)}
    units = {f"PhysicalSize{a}Unit": "mm" for a in "XYZ"}
    facts = {"axes": "TZYX", **sizes, **units, "TimeIncrement": 2.0, "TimeIncrementUnit": "s"}
    tifffile.imwrite(tmp_path / "a.ome.tif", values, metadata=facts)
    (seq,) = ms.read(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(seq.data, values)
    np.testing.assert_allclose(spacing(seq.affine), (0.5, 0.75, 2.0))
    assert seq.times is not None
    assert seq.times.tolist() == [0.0, 2.0]


def test_plain_pages_are_slices_of_one_millimetre_and_both_is_said(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as out:
        for page in (values := pixels(4, 5, 6)):
            out.write(page, contiguous=False, metadata=None)
    (seq,) = ms.read(tmp_path / "a.tif")
    assert seq.axes == ("z", "y", "x")
    np.testing.assert_array_equal(seq.data, values)
    assert any("taken for slices" in w for w in seq.warnings)
    assert any("millimetres" in w for w in seq.warnings)


@pytest.mark.parametrize(("samples", "axes"), [(3, ("y", "x", "c")), (4, ("y", "x", "c"))])
def test_colours(tmp_path: Path, samples: int, axes: tuple[str, ...]) -> None:
    values = pixels(5, 6, samples, kind=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
    (seq,) = ms.read(tmp_path / "a.tif")
    assert seq.axes == axes
    np.testing.assert_array_equal(seq.data, values[..., :3])


def test_channels_that_are_no_colours_are_images(tmp_path: Path) -> None:
    values = pixels(4, 2, 5, 6)
    tifffile.imwrite(tmp_path / "a.tif", values, imagej=True, metadata={"axes": "ZCYX"})
    first, second = ms.read(tmp_path / "a.tif")
    assert (first.name, second.name, first.axes) == ("a_channel0", "a_channel1", ("z", "y", "x"))
    np.testing.assert_array_equal(second.data, values[:, 1])


def test_a_mask_by_name_and_a_bool(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a_mask.tif", (values := pixels(5, 6) > 100))
    (seq,) = ms.read(tmp_path / "a_mask.tif")
    assert seq.kind == "labels"
    np.testing.assert_array_equal(seq.data, values)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels(64, 64), compression="zlib")
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ReadError, match="damaged"):
        ms.read(tmp_path / "cut.tif")
    tifffile.imwrite(tmp_path / "six.tif", pixels(2, 3, 5, 6), photometric="minisblack", metadata={"axes": "QZYX"})
    with pytest.raises(ReadError, match="axes QZYX"):
        ms.read(tmp_path / "six.tif")


def test_info_says_the_same_without_the_pixels(tmp_path: Path) -> None:
    facts = {"axes": "ZYX", "unit": "mm", "spacing": 3.0}
    tifffile.imwrite(tmp_path / "a.tif", pixels(4, 5, 6), imagej=True, resolution=(2, 2), metadata=facts)
    (said,) = ms.info(tmp_path / "a.tif")["series"]
    assert (said["format"], said["shape"], said["spacing_mm"]) == ("TIFF", [6, 5, 4], [0.5, 0.5, 3.0])


def test_white_and_palettes_are_as_pillow_sees_them(tmp_path: Path) -> None:
    from PIL import Image

    values, colours = pixels(5, 6, kind=np.uint8), np.stack([np.arange(256), np.arange(256)[::-1], np.arange(256) // 2])
    tifffile.imwrite(tmp_path / "white.tif", values, photometric="miniswhite")
    tifffile.imwrite(tmp_path / "palette.tif", values, photometric="palette", colormap=colours.astype(np.uint16) * 257)
    for name in ("white", "palette"):
        with Image.open(tmp_path / f"{name}.tif") as picture:
            expected = np.asarray(picture.convert("RGB") if name == "palette" else picture)
        np.testing.assert_array_equal(ms.read(tmp_path / f"{name}.tif")[0].data, expected)
        np.testing.assert_array_equal(ms.read(tmp_path / f"{name}.tif", kind="labels")[0].data, values)


def test_the_display_of_imagej_does_not_change_its_numbers(tmp_path: Path) -> None:
    values = pixels(5, 6, kind=np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif", values, imagej=True, colormap=np.zeros((3, 256), np.uint16), photometric="palette"
    )
    np.testing.assert_array_equal(ms.read(tmp_path / "a.tif")[0].data, values)
