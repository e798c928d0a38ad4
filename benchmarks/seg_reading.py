"""Reading of DICOM segmentations: our own parser beside ``highdicom.seg.segread(...).get_volume()``, on the same files.

A CT of code is segmented by code, and highdicom writes it as each kind of segmentation: binary with segments apart, binary with
segments that overlap, fractional, and a label map. Each reader is a process of its own, several in turn. "read" is the reading alone,
after one of a small file (imports are not in it); "process" is everything. Both count the labelled voxels, which must be the same.

    python benchmarks/seg_reading.py [--slices 120] [--size 256] [--runs 5] [--json seg.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

KINDS = ("BINARY", "BINARY, overlapping", "FRACTIONAL", "LABELMAP")
SEGMENTS = 4
COMMON = """
import sys, time, warnings
warnings.simplefilter("ignore")
small, path = sys.argv[1:3]
def timed():
    read(small)
    start = time.perf_counter()
    voxels = read(path)
    print(time.perf_counter() - start, voxels)
"""
READERS = {
    "ours": COMMON
    + """
import numpy as np, napari_medseq as ms
def read(path):
    return sum(int(np.count_nonzero(s.data)) for s in ms.read(path))
timed()
""",
    "highdicom": COMMON
    + """
import numpy as np, highdicom as hd
def read(path):
    seg = hd.seg.segread(path)
    if seg.segmentation_type == hd.seg.SegmentationTypeValues.LABELMAP:
        return int(np.count_nonzero(seg.get_volume(combine_segments=True).array))
    if seg.segmentation_type == hd.seg.SegmentationTypeValues.FRACTIONAL:
        return int(np.count_nonzero(seg.get_volume(rescale_fractional=True).array >= 0.5))
    return int(np.count_nonzero(seg.get_volume().array))
timed()
""",
}


def ct(folder: Path, slices: int, size: int) -> list[Any]:
    """A series of CT slices on disk, as pydicom holds it."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    study, series, frame = (generate_uid() for _ in range(3))
    folder.mkdir()
    out = []
    for k in range(slices):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds = Dataset()
        ds.file_meta = meta
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.PatientSex = "1", "A", "", "O"
        ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID = "20200101", "120000", "", "1"
        ds.ReferringPhysicianName, ds.Modality, ds.SeriesNumber, ds.InstanceNumber = "", "CT", 1, k + 1
        ds.Rows = ds.Columns = size
        ds.PixelSpacing, ds.SliceThickness = [0.9, 0.9], 2.0
        ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 2.0 * k]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
        ds.PixelData = np.zeros((size, size), np.uint16).tobytes()
        ds.save_as(folder / f"{k:04d}.dcm", enforce_file_format=True)
        out.append(ds)
    return out


def segmentation(path: Path, slices: list[Any], kind: str, size: int) -> None:
    """Balls of four segments, written by highdicom."""
    import highdicom as hd

    z, y, x = np.ogrid[: len(slices), :size, :size]
    masks = np.zeros((len(slices), size, size, SEGMENTS), bool)
    for k in range(SEGMENTS):
        shift = 0.12 if kind.endswith("overlapping") else 0.22
        at = np.array([0.5, 0.2 + shift * k, 0.5]) * (len(slices), size, size)
        apart = ((z - at[0]) / len(slices)) ** 2 + ((y - at[1]) / size) ** 2 + ((x - at[2]) / size) ** 2
        masks[..., k] = apart < 0.1**2
    code = hd.sr.CodedConcept("85756007", "SCT", "Tissue")
    described = [
        hd.seg.SegmentDescription(k + 1, f"s{k + 1}", code, code, "MANUAL", tracking_uid=hd.UID(), tracking_id=str(k))
        for k in range(SEGMENTS)
    ]
    pixels: Any = masks
    if kind == "FRACTIONAL":
        pixels = masks * 0.9
    elif kind == "LABELMAP":
        pixels = (masks * np.arange(1, SEGMENTS + 1)).max(axis=-1).astype(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hd.seg.Segmentation(
            slices, pixels, kind.split(",")[0], described, hd.UID(), 9, hd.UID(), 1, "maker", "model", "1", "0"
        ).save_as(path)


def one_run(reader: str, small: Path, path: Path) -> tuple[float, float, int]:
    """Seconds of the reading and of the process, and the labelled voxels."""
    start = time.perf_counter()
    command = [sys.executable, "-c", READERS[reader], str(small), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    whole = time.perf_counter() - start
    seconds, voxels = done.stdout.split()
    return float(seconds), whole, int(voxels)


def main() -> None:
    """Write the files, read them in turn, print side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=120)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        series, few = ct(root / "ct", args.slices, args.size), ct(root / "few", 4, 32)
        print(f"{args.slices} slices of {args.size}², {SEGMENTS} segments; median of {args.runs} runs (range)\n")
        print(
            "| segmentation | reader | read, s | process, s | ours / highdicom, read |\n| --- | --- | ---: | ---: | ---: |"
        )
        for kind in KINDS:
            small, path = root / "small.dcm", root / "seg.dcm"
            segmentation(small, few, kind, 32)
            segmentation(path, series, kind, args.size)
            found: dict[str, list[tuple[float, float, int]]] = {name: [] for name in READERS}
            for _ in range(args.runs):
                for name in READERS:
                    found[name].append(one_run(name, small, path))
            counts = {voxels for runs in found.values() for _, _, voxels in runs}
            ratio = statistics.median(a[0] / b[0] for a, b in zip(found["ours"], found["highdicom"], strict=True))
            for name, runs in found.items():
                cells = [
                    f"{statistics.median(v):.3f} ({min(v):.3f}–{max(v):.3f})"
                    for v in ([r[0] for r in runs], [r[1] for r in runs])
                ]
                print(f"| {kind} | {name} | {cells[0]} | {cells[1]} | {f'{ratio:.2f}' if name == 'ours' else ''} |")
            rows[kind] = {
                "ratio": ratio,
                "voxels": sorted(counts),
                **{k: [list(r) for r in v] for k, v in found.items()},
            }
        differing = [kind for kind, row in rows.items() if len(row["voxels"]) > 1]
    print(f"\nlabelled voxels: {'the same by both readers' if not differing else f'DIFFER for {differing}'}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
