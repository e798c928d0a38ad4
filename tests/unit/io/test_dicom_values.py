"""DICOM: what a value means beyond slope and intercept: SUV, modality tables, wide colours; grids of slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq.errors import ReadWarning
from tests.unit.io import dicoms
from tests.unit.io.dicoms import item


def _pet(folder: Path, drug: dict[str, Any] | None = None, **more: Any) -> ms.ImageSequence:
    given = {"RadionuclideTotalDose": 4e8, "RadionuclideHalfLife": 6586.2, "RadiopharmaceuticalStartTime": "090000.00"}
    facts: dict[str, Any] = {
        "Modality": "PT", "Units": "BQML", "CorrectedImage": ["DECY", "ATTN", "SCAT"], "DecayCorrection": "START",
        "PatientWeight": 80, "SeriesDate": "20200131", "SeriesTime": "100000", "AcquisitionDate": "20200131",
        "AcquisitionTime": "100200", "RadiopharmaceuticalInformationSequence": [item(**given | (drug or {}))],
    }  # fmt: skip
    dicoms.series(
        folder,
        [(0, 0, 2.5 * k) for k in range(3)],
        each=lambda k: {"RescaleSlope": 0.5 + k, "RescaleIntercept": 0},
        **facts | more,
    )
    (seq,) = ms.read(folder)
    return seq


def test_suv_by_body_weight_of_a_decaying_dose(tmp_path: Path) -> None:
    seq = _pet(tmp_path)
    # the QIBA profile's formula: an hour after injection, 80 kg
    assert seq.meta["suv_bw"] == pytest.approx(80_000 / (4e8 * 2 ** (-3600 / 6586.2)), rel=1e-6)
    assert seq.data.dtype == np.float32  # the voxels stay Bq/mL, each slice with its own slope


@pytest.mark.parametrize(
    ("more", "drug", "expected"),
    [
        ({"DecayCorrection": "ADMIN"}, {}, 80_000 / 4e8),
        ({"SeriesTime": "110000"}, {}, 80_000 / (4e8 * 2 ** (-3720 / 6586.2))),  # made later: the acquisition counts
        ({"SeriesTime": "001000", "AcquisitionTime": "001000"}, {"RadiopharmaceuticalStartTime": "231000"},
         80_000 / (4e8 * 2 ** (-3600 / 6586.2))),
        ({"Units": "GML"}, {}, 1.0),
        # an hour after injection, in the local time that the file or its moment of acquisition states
        ({"TimezoneOffsetFromUTC": "+0200"}, {"RadiopharmaceuticalStartDateTime": "20200131070000.00+0000"},
         80_000 / (4e8 * 2 ** (-3600 / 6586.2))),
        ({"AcquisitionDateTime": "20200131100200-0330"}, {"RadiopharmaceuticalStartDateTime": "20200131123000+0000"},
         80_000 / (4e8 * 2 ** (-3600 / 6586.2))),
        ({"TimezoneOffsetFromUTC": "+0500", "AcquisitionDateTime": "20200131050200+0000"},
         {"RadiopharmaceuticalStartDateTime": "20200131090000"}, 80_000 / (4e8 * 2 ** (-3600 / 6586.2))),
        ({}, {"RadiopharmaceuticalStartDateTime": "20200131090000+0100"}, 80_000 / (4e8 * 2 ** (-3600 / 6586.2))),
    ],
)  # fmt: skip
def test_suv_of_other_tags(tmp_path: Path, more: dict[str, Any], drug: dict[str, Any], expected: float) -> None:
    assert _pet(tmp_path, drug, **more).meta["suv_bw"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("more", "drug", "why"),
    [
        ({"PatientWeight": None}, {}, "weight"), ({}, {"RadionuclideTotalDose": 370}, "not plausible"),
        ({}, {"RadionuclideHalfLife": 0}, "half-life"), ({"CorrectedImage": ["DECY"]}, {}, "ATTN"),
        ({"Units": "CNTS"}, {}, "counts"), ({"Units": "GML", "SUVType": "LBM"}, {}, "LBM"),
        ({"DecayCorrection": "NONE"}, {}, "decay correction"), ({"RadiopharmaceuticalInformationSequence": None}, {}, "dose"),
        ({}, {"RadiopharmaceuticalStartDateTime": "20200129090000"}, "day before"),
    ],
)  # fmt: skip
def test_without_the_tags_the_reason_is_given(
    tmp_path: Path, more: dict[str, Any], drug: dict[str, Any], why: str
) -> None:
    meta = _pet(tmp_path, drug, **more).meta
    assert "suv_bw" not in meta
    assert why in meta["suv_missing"]


def test_counts_with_a_philips_factor(tmp_path: Path) -> None:
    ds = dicoms.dataset(dicoms.picture(), Modality="PT", Units="CNTS")
    ds.add_new((0x7053, 0x0010), "LO", "Philips PET Private Group")
    ds.add_new((0x7053, 0x1000), "DS", "0.00038")
    (seq,) = ms.read(dicoms.save(ds, tmp_path / "a"))
    assert seq.meta["suv_bw"] == pytest.approx(0.00038)


def test_a_modality_table_takes_the_place_of_slope_and_intercept(tmp_path: Path) -> None:
    picture = dicoms.picture(top=12)
    table = np.array([5, 4, 9, 100, 101, 7, 7, 8], np.uint16)  # stored values 2 to 9; others take the ends
    ds = dicoms.dataset(picture)
    lut = item(LUTDescriptor=[8, 2, 16], ModalityLUTType="HU", LUTData=table.tobytes())
    lut["LUTData"].VR = "OW"
    ds.ModalityLUTSequence = [lut]
    (seq,) = ms.read(dicoms.save(ds, tmp_path / "a"))
    assert np.array_equal(seq.data[0], table[np.clip(picture.astype(int) - 2, 0, 7)])


def test_colours_of_32_bits_keep_their_higher_16(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 2**32, (6, 4, 3), np.uint64).astype(np.uint32)
    ds = dicoms.dataset(colour[..., 0], SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    ds.PixelData = colour.tobytes()
    (seq,) = ms.read(dicoms.save(ds, tmp_path / "a"))
    assert np.array_equal(seq.data[0], (colour >> 16).astype(np.uint16))


def test_a_grid_that_lists_its_slices(tmp_path: Path) -> None:
    slices = [dicoms.picture((4, 4), seed=k) for k in range(3)]
    whole = np.zeros((8, 8), np.uint16)
    whole[:4, :4], whole[:4, 4:], whole[4:, :4] = slices
    ds = dicoms.dataset(whole, Modality="MR", ImageType=["ORIGINAL", "PRIMARY", "M", "VFRAME"])
    ds.add_new((0x0065, 0x0010), "LO", "Image Private Header")
    ds.add_new((0x0065, 0x1051), "SQ", [item(ImagePositionPatient=[1, 2, 30 - 4 * k]) for k in range(3)])
    (seq,) = ms.read(dicoms.save(ds, tmp_path / "a"))
    assert seq.sizes == {"z": 3, "y": 4, "x": 4}
    for k, picture in enumerate(slices):
        assert dicoms.value_at(seq, (1 + 0.75 * 3, 2 + 0.5 * 2, 30 - 4 * k)) == picture[2, 3]


def test_one_slice_without_its_place_is_doubted(tmp_path: Path) -> None:
    ds = dicoms.dataset(dicoms.picture(), position=None)
    with pytest.warns(ReadWarning, match="orientation unknown"):
        (seq,) = ms.read(dicoms.save(ds, tmp_path / "a"))
    assert not seq.oriented


@pytest.mark.parametrize(
    ("kind", "low", "high", "inter", "expected"),
    [
        (np.int16, -1000, 3000, -1024, np.int16), (np.uint16, 0, 4000, -1024, np.int16), (np.uint16, 1024, 60000, -1024, np.uint16),
        (np.int16, -32768, 32767, -1024, np.int32), (np.uint16, 0, 65535, 10, np.int32), (np.int16, 0, 32767, 3000, np.uint16),
    ],
)  # fmt: skip
def test_sixteen_bits_stay_sixteen_where_the_values_fit(
    tmp_path: Path, kind: Any, low: int, high: int, inter: int, expected: Any
) -> None:
    pixels = [np.random.default_rng(k).integers(low, high, (6, 5), endpoint=True).astype(kind) for k in range(3)]
    pixels[0][0, 0], pixels[1][0, 0] = low, high
    for k, picture in enumerate(pixels):
        ds = dicoms.dataset(picture, (0, 0, 2.5 * k), RescaleSlope=1, RescaleIntercept=inter, InstanceNumber=k)
        dicoms.save(ds, tmp_path / f"{k}")
    (seq,) = ms.read(tmp_path)
    assert seq.data.dtype == expected
    assert np.array_equal(seq.data, np.stack(pixels).astype(int) + inter)
    assert np.array_equal(ms.read(tmp_path, lazy=True)[0].compute().data, seq.data)


def test_a_slice_that_cannot_be_decoded_is_zero_and_named(tmp_path: Path) -> None:
    for k in range(3):
        ds = dicoms.dataset(dicoms.picture((32, 32), seed=k), (0, 0, 2.5 * k), RescaleSlope=1, RescaleIntercept=-1024)
        ds.compress("1.2.840.10008.1.2.4.80", generate_instance_uid=False)
        if k == 1:
            ds.PixelData = ds.PixelData[:40] + b"\xff" * (len(ds.PixelData) - 48) + ds.PixelData[-8:]
        dicoms.save(ds, tmp_path / f"{k}")
    with pytest.warns(ReadWarning, match="1 of 3 slices could not be decoded"):
        (seq,) = ms.read(tmp_path)
    assert not seq.data[1].any()
    assert seq.data[0].any()
