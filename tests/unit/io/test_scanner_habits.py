"""Habits of real scanners, made by code: every voxel stands at its place and moment by the standard's own formula."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_medseq as ms
from tests.unit.io import dicoms
from tests.unit.io.dicoms import item
from tests.unit.io.scanner import Scanner

pytestmark = pytest.mark.filterwarnings("ignore::napari_medseq.errors.ReadWarning")

OBLIQUE = (0.8, 0.6, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
GE = (0x0043, 0x10, "GEMS_PARM_01")
SIEMENS = (0x0019, 0x10, "SIEMENS MR HEADER")


def ge_complex(scan: Scanner) -> None:
    """GE: magnitude, phase, real and imaginary differ in a private number alone."""
    for z in range(3):
        for kind in range(4):
            scan.shot(f"kind{kind}", (0, 0, 3.0 * z), Modality="MR", private={GE: (0x2F, "SS", kind)}, EchoTime=4.0)


def ge_echoes(scan: Scanner) -> None:
    """GE: echoes under one series UID, all with echo number 1."""
    for z in range(3):
        for echo in (4.92, 7.38):
            scan.shot(str(echo), (0, 0, 3.0 * z), Modality="MR", EchoNumbers=1, EchoTime=echo)


def two_kernels(scan: Scanner) -> None:
    """CT: a soft and a sharp reconstruction under one series UID."""
    for kernel in ("B30f", "B70f"):
        for z in range(3):
            scan.shot(kernel, (0, 0, 2.0 * z), ConvolutionKernel=kernel)


def two_energies(scan: Scanner) -> None:
    """CT: two tube voltages, slice by slice."""
    for z in range(3):
        for voltage in (80, 140):
            scan.shot(str(voltage), (0, 0, 2.0 * z), KVP=voltage)


def shared_uid(scan: Scanner) -> None:
    """Two series of one UID, told apart by their number."""
    for number in (3, 4):
        for z in range(3):
            scan.shot(str(number), (0, 0, 2.0 * z), SeriesNumber=number, SeriesDescription=f"run {number}")


def one_sop_uid(scan: Scanner) -> None:
    """A de-identifier that gave every file the same SOP instance UID."""
    for z in range(5):
        scan.shot("ct", (0, 0, 2.0 * z), SOPInstanceUID="1.2.3.4.5")


def own_worlds(scan: Scanner) -> None:
    """A de-identifier that gave every file a frame of reference of its own."""
    for z in range(5):
        scan.shot("ct", (0, 0, 2.0 * z), FrameOfReferenceUID=f"1.2.9.{z + 1}")


def one_position_for_all(scan: Scanner) -> None:
    """Every slice names the place of the first; their locations put them apart."""
    for z in (2, 0, 1):
        values = scan.pixels()
        ds = dicoms.dataset(values, (1, 2, 7.0), SliceLocation=7.0 + 4.0 * (z - 2), InstanceNumber=z)
        dicoms.save(ds, scan.folder / str(2 - z))
        scan.remember("ct", 0, (1, 2, 7.0 + 4.0 * (z - 2)), dicoms.AXIAL, values)


def decimal_commas(scan: Scanner) -> None:
    """DS values with commas, spaces and zero bytes."""
    for z in range(3):
        values = scan.pixels()
        ds = dicoms.dataset(values, None, None, None, InstanceNumber=z + 1)
        for tag, said in (
            (0x00200032, f"1,5\\-2,25\\ {2.5 * z} ".encode()),
            (0x00200037, b"1\\0\\0\\0\\1\\-0 "),
            (0x00280030, b"0,5\\0,75\0"),
        ):
            ds[tag] = dicoms.pydicom.dataelem.RawDataElement(
                dicoms.pydicom.tag.Tag(tag), "DS", len(said), said, 0, False, True
            )
        dicoms.save(ds, scan.folder / str(z))
        scan.remember("ct", 0, (1.5, -2.25, 2.5 * z), dicoms.AXIAL, values)


def cine_of_more_phases(scan: Scanner) -> None:
    """Short axis: the last slices were acquired in another breath-hold with more phases; nothing is lost."""
    for z in range(5):
        for t in range(5 if z < 3 else 8):
            name, at = ("all", t) if t < 5 else ("more", t - 5)
            scan.shot(name, (0, 0, 8.0 * z), at, OBLIQUE_AXIAL, Modality="MR", TriggerTime=31.0 * t + 0.3 * z)


OBLIQUE_AXIAL = (0.8, 0.6, 0.0, -0.6, 0.8, 0.0)


def one_file_lost(scan: Scanner) -> None:
    """A dynamic series that lost a file in the middle: the volume it is missing from is left out, the others keep their moments."""
    for t in range(6):
        for z in range(4):
            scan.shot("run" if t != 2 else "lost", (0, 0, 2.0 * z), t - (t > 2), TemporalPositionIdentifier=t + 1)
    paths = sorted(scan.folder.iterdir(), key=lambda p: int(p.stem.split("_")[1]))
    paths[2 * 4 + 1].unlink()
    scan.truth.pop("lost")


def philips_dynamic(scan: Scanner) -> None:
    """Philips: instance numbers run over time first, slopes are not round numbers."""
    for z in range(3):
        for t in range(4):
            scan.shot("epi", (0, 0, 4.0 * z), t, Modality="MR", TemporalPositionIdentifier=t + 1, RescaleSlope="1.27594",
                      RescaleIntercept="0", ImageType=["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"])  # fmt: skip


def philips_flow(scan: Scanner) -> None:
    """Philips: magnitude and phase of a cine, triggered, in one series."""
    for t in range(4):
        for z in range(2):
            for kind in ("M_PCA", "PHASE MAP"):
                scan.shot(kind, (0, 0, 6.0 * z), t, Modality="MR", TriggerTime=40.0 * t + 7 * z,
                          ImageType=["ORIGINAL", "PRIMARY", kind, kind[0], "PCA"])  # fmt: skip


def diffusion_siemens(scan: Scanner) -> None:
    """Siemens: b-values and directions in private attributes, all one sequence in the order of acquisition."""
    for t, b in enumerate((0, 50, 800, 800)):
        for z in (0, 2, 1):
            scan.shot("dwi", (0, 0, 4.0 * z), t, Modality="MR", AcquisitionTime=f"1012{t:02d}",
                      private={SIEMENS: (0x0C, "IS", str(b))})  # fmt: skip


def scrambled_diffusion(scan: Scanner) -> None:
    """Philips: instance numbers in no order; the weighting is alike at every position, and a trace is an image of its own."""
    weightings = [
        (0.0, (0.0, 0, 0)),
        (1000.0, (1.0, 0, 0)),
        (1000.0, (0, 1.0, 0)),
        (1000.0, (0, 0.6, 0.8)),
        (1000.0, (0.0, 0, 0)),
    ]
    for z in range(3):
        order = [(t + 2 * z) % 5 for t in range(5)] if z else list(range(5))
        for t in order:
            b, direction = weightings[t]
            private = {(0x2001, 0x10, "Philips Imaging DD 001"): (0x03, "FL", b)}
            scan.shot("dwi" if t < 4 else "trace", (0, 0, 2.0 * z), t % 4, Modality="MR", Manufacturer="Philips",
                      private=private, DiffusionGradientOrientation=list(direction))  # fmt: skip


def numbered_diffusion(scan: Scanner) -> None:
    """Philips: b-value and gradient numbers order the volumes; the creators of the private blocks were removed."""
    for z in range(2):
        for t in (2, 0, 1):
            values = scan.pixels()
            ds = dicoms.dataset(
                values, (0, 0, 2.0 * z), Modality="MR", Manufacturer="Philips Healthcare", InstanceNumber=9 - t - z
            )
            ds.add_new(0x20051412, "IS", str(1 + (t > 0)))
            ds.add_new(0x20051413, "IS", str(1 + t))
            dicoms.save(ds, scan.folder / f"{z}{t}")
            scan.remember("dwi", t, (0, 0, 2.0 * z), dicoms.AXIAL, values)


def labelled_spins(scan: Scanner) -> None:
    """Philips: control and label share their temporal positions."""
    for z in range(2):
        for k, label in enumerate(("CONTROL", "LABEL")):
            for t in range(2):
                private = {(0x2005, 0x14, "Philips MR Imaging DD 005"): (0x29, "CS", label)}
                scan.shot("asl", (0, 0, 2.0 * z), 2 * k + t, Modality="MR", TemporalPositionIdentifier=t + 1,
                          InstanceNumber=7 * t + 3 * k, private=private, Manufacturer="Philips")  # fmt: skip


def two_station_planes(scan: Scanner) -> None:
    """A scout in three planes, of several slices each."""
    for name, plane in (("sag", SAGITTAL), ("cor", CORONAL), ("ax", dicoms.AXIAL)):
        normal = np.cross(plane[:3], plane[3:])
        for k in range(3):
            scan.shot(name, (normal * 10.0 * k).tolist(), 0, plane, Modality="MR")


def dynamic_pet(scan: Scanner) -> None:
    """PET: frames of unequal length, a slope for every slice, instance numbers by slice."""
    for z in range(3):
        for t, start in enumerate((0, 10, 30, 90)):
            scan.shot("pet", (0, 0, 3.27 * z), t, Modality="PT", Units="BQML", FrameReferenceTime=1000.0 * (start + 5),
                      AcquisitionTime=f"10{start // 60:02d}{start % 60:02d}", ActualFrameDuration=10000,
                      RescaleSlope=str(0.5 + 0.01 * z + 0.1 * t), RescaleIntercept="0")  # fmt: skip


def gated_ct(scan: Scanner) -> None:
    """4D CT: phases of breathing, told by percentage."""
    for t in range(3):
        for z in range(3):
            scan.shot("ct", (0, 0, 2.0 * z), t, NominalPercentageOfCardiacPhase=10.0 * t, AcquisitionNumber=1)


def tilted_ct(scan: Scanner) -> None:
    """Gantry tilt: slices stacked aslant to their normal, over two moments."""
    tilt = np.radians(15)
    plane = (1, 0, 0, 0, float(np.cos(tilt)), float(np.sin(tilt)))
    for t in range(2):
        for z in range(4):
            scan.shot("ct", (0, 0, 5.0 * z), t, plane, AcquisitionNumber=t + 1)


def rounded_places(scan: Scanner) -> None:
    """Positions rounded to a tenth of a millimetre stay one volume."""
    for z in range(8):
        scan.shot("ct", (0, 0, round(0.625 * z, 1)), SliceThickness=0.625)


def xa_volumes(scan: Scanner) -> None:
    """Siemens XA: one enhanced file for each volume; only the file says when."""
    for t in range(3):
        frames: list[Any] = [("bold", t, (0, 0, 3.0 * z), {}) for z in (2, 0, 1)]
        scan.enhanced(f"v{(t * 2) % 3}", frames, Modality="MR", AcquisitionDateTime=f"2020013110{t:02d}00")


def xa_numbered(scan: Scanner) -> None:
    """The same without any time: the instance numbers of the files count."""
    for t in range(3):
        frames: list[Any] = [("bold", t, (0, 0, 3.0 * z), {}) for z in (2, 0, 1)]
        scan.enhanced(f"v{(t * 2) % 3}", frames, Modality="MR", InstanceNumber=t + 1)


def philips_stacks(scan: Scanner) -> None:
    """Philips: two stacks in one enhanced file, frames in no order, echoes and moments in each."""
    frames: list[Any] = []
    for t in (1, 0):
        for echo in (20.0, 10.0):
            for stack, plane in (("1", dicoms.AXIAL), ("2", SAGITTAL)):
                normal = np.cross(plane[:3], plane[3:])
                for z in (1, 2, 0):
                    frames.append((f"{stack} {echo}", t, tuple(30 + normal * 4.0 * z), {
                        "FrameContentSequence": item(StackID=stack, InStackPositionNumber=z + 1, TemporalPositionIndex=t + 1),
                        "PlaneOrientationSequence": item(ImageOrientationPatient=list(plane)),
                        "MREchoSequence": item(EffectiveEchoTime=echo),
                    }))  # fmt: skip
    scan.enhanced("philips", frames, None, Modality="MR")


def enhanced_diffusion(scan: Scanner) -> None:
    """Enhanced MR: b-values and directions stay one sequence."""
    frames: list[Any] = []
    for t, (b, direction) in enumerate(((0.0, None), (1000.0, (1.0, 0, 0)), (1000.0, (0, 1.0, 0)))):
        gradient = {} if direction is None else {
            "DiffusionGradientDirectionSequence": [item(DiffusionGradientOrientation=list(direction))]
        }  # fmt: skip
        for z in range(3):
            frames.append(("dwi", t, (0, 0, 2.0 * z), {"MRDiffusionSequence": item(DiffusionBValue=b, **gradient)}))
    scan.enhanced("dwi", frames, Modality="MR")


def enhanced_ct(scan: Scanner) -> None:
    """Enhanced CT: oblique, frames in reverse."""
    normal = np.cross(OBLIQUE[:3], OBLIQUE[3:])
    scan.enhanced("ct", [("ct", 0, tuple(normal * 1.5 * z), {}) for z in range(4, -1, -1)], OBLIQUE, Modality="CT")


def one_place_for_all(scan: Scanner) -> None:
    """Enhanced: every frame has the place of the first; their numbers in the stack put them apart."""
    pixels = np.stack([scan.pixels() for _ in range(4)])
    ds = dicoms.dataset(pixels, None, None, None, Modality="MR")
    ds.SharedFunctionalGroupsSequence = [dicoms.groups(
        PixelMeasuresSequence=item(PixelSpacing=[0.5, 0.75], SliceThickness=2.0, SpacingBetweenSlices=2.5),
        PlaneOrientationSequence=item(ImageOrientationPatient=list(dicoms.AXIAL)),
        PlanePositionSequence=item(ImagePositionPatient=[1, 2, 3]),
    )]  # fmt: skip
    ds.PerFrameFunctionalGroupsSequence = [
        dicoms.groups(FrameContentSequence=item(StackID="1", InStackPositionNumber=z + 1)) for z in range(4)
    ]
    dicoms.save(ds, scan.folder / "mr")
    for z in range(4):
        scan.remember("mr", 0, (1, 2, 3 + 2.5 * z), dicoms.AXIAL, pixels[z])


def nuclear(scan: Scanner, count: int, **more: Any) -> np.ndarray:
    pixels = np.stack([scan.pixels() for _ in range(count)])
    scan.file("nm", pixels, Modality="NM", PixelSpacing=[0.5, 0.75], **more)
    return pixels


DETECTOR = [item(ImagePositionPatient=[1, 2, 3], ImageOrientationPatient=list(dicoms.AXIAL))]


def gated_tomogram(scan: Scanner) -> None:
    """NM: gates of a reconstructed heart; the spacing's sign says that slices run against the normal."""
    pixels = nuclear(
        scan, 6, ImageType=["ORIGINAL", "PRIMARY", "RECON GATED TOMO", "EMISSION"], SpacingBetweenSlices=-4.0, SliceVector=[1, 2, 3] * 2,
        TimeSlotVector=[1] * 3 + [2] * 3, RRIntervalVector=[1] * 6, DetectorInformationSequence=DETECTOR,
        GatedInformationSequence=[item(DataInformationSequence=[item(FrameTime=60.0)])],
    )  # fmt: skip
    for k in range(6):
        scan.remember("heart", k // 3, (1, 2, 3 - 4.0 * (k % 3)), dicoms.AXIAL, pixels[k])


def dose_without_offsets(scan: Scanner) -> None:
    """A dose grid without its offsets is stacked by its thickness."""
    pixels = np.stack([scan.pixels() for _ in range(3)])
    ds = dicoms.dataset(pixels, (4.0, 5, 6), Modality="RTDOSE", SliceThickness=3.0, DoseGridScaling=0.5)
    dicoms.save(ds, scan.folder / "dose")
    for z in range(3):
        scan.remember("dose", 0, (4, 5, 6 + 3.0 * z), dicoms.AXIAL, pixels[z] * 0.5)


def dose_of_absolute_offsets(scan: Scanner) -> None:
    """A dose grid whose offsets are the slices' own places, downwards."""
    pixels = np.stack([scan.pixels() for _ in range(3)])
    ds = dicoms.dataset(pixels, (4.0, 5, 6), Modality="RTDOSE", GridFrameOffsetVector=[6, 3, 0], DoseGridScaling=0.5)
    dicoms.save(ds, scan.folder / "dose")
    for z in range(3):
        scan.remember("dose", 0, (4, 5, 6 - 3.0 * z), dicoms.AXIAL, pixels[z] * 0.5)


HABITS: tuple[Callable[[Scanner], None], ...] = (
    ge_complex, ge_echoes, two_kernels, two_energies, shared_uid, one_sop_uid, own_worlds, one_position_for_all,
    decimal_commas, cine_of_more_phases,
    one_file_lost, philips_dynamic, philips_flow, diffusion_siemens, scrambled_diffusion, numbered_diffusion,
    labelled_spins, two_station_planes, dynamic_pet, gated_ct, tilted_ct,
    xa_volumes, xa_numbered, philips_stacks, enhanced_diffusion, enhanced_ct, one_place_for_all, gated_tomogram,
    dose_without_offsets, dose_of_absolute_offsets,
)  # fmt: skip


@pytest.mark.parametrize("habit", HABITS, ids=lambda habit: habit.__name__)
def test_every_voxel_stands_at_its_place_and_moment(tmp_path: Path, habit: Callable[[Scanner], None]) -> None:
    scan = Scanner(tmp_path)
    habit(scan)
    found = scan.check()
    assert len({s.name for s in found}) == len(found)


def test_rounded_places_are_said(tmp_path: Path) -> None:
    scan = Scanner(tmp_path)
    rounded_places(scan)
    with pytest.warns(ms.errors.ReadWarning, match="unevenly spaced"):
        (seq,) = ms.read(tmp_path)
    assert seq.size("z") == 8
    assert seq.meta["slice_positions_mm"][1] == 0.6


@pytest.mark.parametrize(
    ("habit", "values", "vectors"),
    [(diffusion_siemens, [0, 50, 800, 800], None), (enhanced_diffusion, [0, 1000, 1000], [None, [-1, 0, 0], [0, -1, 0]])],
    ids=["siemens", "enhanced"],
)  # fmt: skip
def test_diffusion_is_told(tmp_path: Path, habit: Callable[[Scanner], None], values: list[float], vectors: Any) -> None:
    scan = Scanner(tmp_path)
    habit(scan)
    (seq,) = scan.check()
    assert seq.meta["b_values"] == values
    assert seq.meta.get("b_vectors") == vectors


@pytest.mark.parametrize(
    ("block", "element", "vr", "said", "expected"),
    [((0x0043, 0x10, "GEMS_PARM_01"), 0x39, "IS", ["1000001000", "8", "0", "0"], 1000.0),
     ((0x2001, 0x10, "Philips Imaging DD 001"), 0x03, "FL", 700.0, 700.0),
     ((0x0065, 0x10, "Image Private Header"), 0x09, "FD", 1500.0, 1500.0),
     ((0x2001, 0x10, "SOMEONE ELSE"), 0x03, "FL", 700.0, None)],
    ids=["GE", "Philips", "UIH", "stranger"],
)  # fmt: skip
def test_private_b_values(
    tmp_path: Path, block: tuple[int, int, str], element: int, vr: str, said: Any, expected: Any
) -> None:
    scan = Scanner(tmp_path)
    for t in range(2):
        scan.shot("dwi", t=t, Modality="MR", private={block: (element, vr, said)})
    (seq,) = ms.read(tmp_path)
    assert seq.meta.get("b_values") == (None if expected is None else [expected] * 2)


def test_pet_frames_have_their_own_times(tmp_path: Path) -> None:
    scan = Scanner(tmp_path)
    dynamic_pet(scan)
    (seq,) = scan.check()
    assert seq.times == pytest.approx([0, 10, 30, 90])


def test_gates_have_their_times(tmp_path: Path) -> None:
    scan = Scanner(tmp_path)
    gated_tomogram(scan)
    (seq,) = scan.check()
    assert seq.times == pytest.approx([0, 0.06])


def test_planar_detectors_are_images_and_phases_are_times(tmp_path: Path) -> None:
    scan = Scanner(tmp_path)
    pixels = nuclear(
        scan, 8, ImageType=["ORIGINAL", "PRIMARY", "DYNAMIC", "EMISSION"], DetectorVector=[1, 2] * 4, PhaseVector=[1, 1, 1, 1, 2, 2, 2, 2],
        TimeSliceVector=[1, 1, 2, 2] * 2,
        PhaseInformationSequence=[item(ActualFrameDuration=d, NumberOfFramesInPhase=2, PhaseDelay=0) for d in (1000, 5000)],
    )  # fmt: skip
    found = ms.read(tmp_path)
    assert [s.axes for s in found] == [("t", "y", "x")] * 2
    for detector, seq in enumerate(found):
        assert f"detector{detector + 1}" in seq.name
        assert np.array_equal(seq.data, pixels[detector::2])
        assert seq.times == pytest.approx([0, 1, 2, 7])
