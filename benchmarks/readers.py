"""Reading, side by side in one run and as whole processes: ours against dcm2niix, SimpleITK, pydicom, dicomsdl and nibabel.

Every case is made by code; the floor is reading the same bytes with `cat`. Each reader runs in a process of its own, several
times in turn, so that a disturbance hits all. Printed and written as JSON: median and spread of the seconds, the processor's
seconds (user and system, which a busy machine disturbs less), peak memory over the size of the array, how often each file
was opened, and the ratio, of both kinds of seconds, to the reader that each case is held against. Each reader runs once before
it is timed, and all Python modules are byte-compiled then, as installing a package does. Run it on a machine that does nothing
else.

    python benchmarks/readers.py [--quick] [--runs 5] [--slices 500] [--cases ct jpegls nifti] [--keep FOLDER] [--json readers.json]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SIZE = 512
#: case → reader to be compared with, and the ratio aimed at
TARGETS = {
    "ct": ("dcm2niix", 0.85), "jpegls": ("dcm2niix", 1.0), "jpeg2000": ("SimpleITK", 0.6), "rle": ("dcm2niix", 1.0),
    "nifti": ("SimpleITK", 1.1), "cine": ("dcm2niix", 1.2), "tree": ("dcm2niix", 1.2),
}  # fmt: skip
#: Peak memory aimed at, as a multiple of the array.
MEMORY = 1.3
#: Prints the bytes of the array and the process's peak memory; `ru_maxrss` would tell the parent's where that was larger.
TELL = """
def peak():
    try:
        return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) * 1024
    except OSError:
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(n, peak())
"""
#: Counts how often each file under `path` is opened; prints the most.
COUNT = """
import sys
opened = {}
def hook(event, details):
    if event == "open" and str(details[0]).startswith(path):
        opened[str(details[0])] = opened.get(str(details[0]), 0) + 1
sys.addaudithook(hook)
import napari_medseq as ms
ms.read(path)
print(max(opened.values()))
"""
SYNTAXES = {
    "ct": None,
    "jpegls": "1.2.840.10008.1.2.4.80",
    "jpeg2000": "1.2.840.10008.1.2.4.90",
    "rle": "1.2.840.10008.1.2.5",
}

READERS = {
    "ours": "import napari_medseq as ms; r = ms.read(path); n = sum(s.data.nbytes for s in r)",
    "ours, first slice (lazy)": (
        "import numpy as np, napari_medseq as ms; s = ms.read(path, lazy=True)[0]; d = s.data\n"
        "while d.ndim > 2: d = d[d.shape[0] // 2]\n"
        "n = np.asarray(d).nbytes"
    ),
    "SimpleITK": (
        "import SimpleITK as sitk, os\n"
        "names = sorted(os.path.join(path, f) for f in os.listdir(path)) if os.path.isdir(path) else path\n"
        "n = sitk.GetArrayViewFromImage(sitk.ReadImage(names)).nbytes"
    ),
    "pydicom": (
        "import pydicom, numpy as np, os\n"
        "d = sorted((pydicom.dcmread(os.path.join(path, f)) for f in os.listdir(path)), key=lambda d: d.ImagePositionPatient[2])\n"
        "n = np.stack([x.pixel_array for x in d]).nbytes"
    ),
    "dicomsdl": (
        "import dicomsdl, numpy as np, os\n"
        "n = np.stack([dicomsdl.open(os.path.join(path, f)).pixelData() for f in sorted(os.listdir(path))]).nbytes"
    ),
    "nibabel": "import nibabel, numpy as np; n = np.asarray(nibabel.load(path).dataobj).nbytes",
}
FOR_FILE = ("ours", "ours, first slice (lazy)", "SimpleITK", "nibabel")
FOR_SERIES = ("ours", "ours, first slice (lazy)", "SimpleITK", "pydicom", "dicomsdl", "dcm2niix")
FOR_TREE = ("ours", "dcm2niix")


def head_ct(slices: int) -> np.ndarray:
    """Smooth tissue with noise, 12 bit, as (z, y, x): compresses about as a scan does."""
    from scipy.ndimage import gaussian_filter, zoom

    rng = np.random.default_rng(0)
    coarse = gaussian_filter(rng.normal(size=(max(slices // 8, 2), SIZE // 8, SIZE // 8)), 2)
    smooth = zoom(coarse / coarse.std(), (slices / coarse.shape[0], 8, 8), order=1)
    noise = rng.normal(0, 12, (8, SIZE, SIZE))
    return np.stack([(smooth[k] * 300 + 1000 + noise[k % 8]).clip(0, 4095).astype(np.uint16) for k in range(slices)])


def write_series(folder: Path, volume: np.ndarray, syntax: str | None, series: int = 1, frames: int = 1) -> Path:
    """One classic file per slice (and frame), names in no order."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset

    folder.mkdir(parents=True)
    names = np.random.default_rng(series).permutation(len(volume))
    per_frame = len(volume) // frames
    for k, picture in enumerate(volume):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        ds = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, f"1.2.{series}.{k + 1}"
        meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.9", f"1.2.8.{series}", "1.2.7"
        ds.Modality, ds.SeriesDescription, ds.SeriesNumber, ds.InstanceNumber = "CT", f"series {series}", series, k + 1
        ds.StudyDate, ds.StudyTime, ds.PatientID, ds.PatientName = "20200101", "100000", "x", "x"
        ds.AcquisitionDate, ds.AcquisitionTime = "20200101", f"1000{k // per_frame:02d}"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, float(k % per_frame)], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.SliceThickness = [0.7, 0.7], 1.0
        ds.Rows, ds.Columns = picture.shape
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        ds.PixelData = picture.tobytes()
        ds["PixelData"].VR = "OW"
        if syntax:
            ds.compress(syntax, generate_instance_uid=False)
        ds.save_as(folder / f"{names[k]:05d}.dcm", enforce_file_format=True)
    return folder


def make_case(name: str, folder: Path, slices: int) -> tuple[Path, tuple[str, ...]]:
    """Write a case, unless it is there; returns its path and the readers that can open it."""
    if (folder / name).exists():
        readers = FOR_FILE if name == "nifti" else FOR_SERIES if name in SYNTAXES else FOR_TREE
        return (folder / name / "ct.nii.gz" if name == "nifti" else folder / name), readers
    volume = head_ct(slices)
    if name in SYNTAXES:
        return write_series(folder / name, volume, SYNTAXES[name]), FOR_SERIES
    if name == "nifti":
        import nibabel as nib

        (folder / name).mkdir()
        nib.save(
            nib.Nifti1Image((volume.T.astype(np.int16) - 1024), np.diag([0.7, 0.7, 1, 1])), folder / name / "ct.nii.gz"
        )
        return folder / name / "ct.nii.gz", FOR_FILE
    # so many files that dcm2niix needs a second: of a small set one measures how long Python takes to start
    plane = volume[:, :256, :256].copy()
    if name == "cine":
        frames = np.concatenate([plane] * 4)[: slices * 4 // 20 * 20]
        return write_series(folder / name, frames, None, frames=20), FOR_TREE
    if name == "tree":
        for k in range(40):
            write_series(folder / name / f"s{k:02d}", plane[: max(slices // 10, 2)], None, series=k + 1)
        return folder / name, FOR_TREE
    raise SystemExit(f"There is no case {name!r}.")


def command(reader: str, path: Path, scratch: Path) -> list[str] | None:
    """The process that reads; None where the reader is not installed."""
    if reader == "floor":
        files = sorted(str(p) for p in path.rglob("*") if p.is_file()) if path.is_dir() else [str(path)]
        return ["sh", "-c", 'cat "$@" > /dev/null', "sh", *files]
    if reader == "dcm2niix":
        program = shutil.which("dcm2niix")
        return [program, "-z", "n", "-b", "n", "-o", str(scratch), str(path)] if program else None
    return [sys.executable, "-W", "ignore", "-c", f"path = {str(path)!r}\n{READERS[reader]}\n{TELL}"]


def timed(words: list[str], compiled: Path) -> tuple[float, float, list[int]] | None:
    """Seconds of one process by the clock and of the processor, and the numbers that it prints; None if it fails.

    Byte-compiled modules are kept in the folder `compiled`, whatever the environment says: ours may be an editable install.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(compiled)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        return None
    last = done.stdout.strip().splitlines()[-1:] or [""]
    worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, worked, [int(w) for w in last[0].split() if w.isdigit()]


def measure(name: str, path: Path, readers: tuple[str, ...], runs: int, compiled: Path) -> dict[str, Any]:
    """Medians for one case, readers in turn so that a disturbance hits all; the first round is not counted."""
    seconds: dict[str, list[float]] = {}
    worked: dict[str, list[float]] = {}
    memory: dict[str, float] = {}
    failed: set[str] = set()
    for run in range(runs + 1):
        for reader in ("floor", *readers):
            with tempfile.TemporaryDirectory() as scratch:
                words = command(reader, path, Path(scratch))
                got = timed(words, compiled) if words else None
            if got is None:
                failed.add(reader)
            if got is None or run == 0:
                continue
            seconds.setdefault(reader, []).append(got[0])
            worked.setdefault(reader, []).append(got[1])
            if len(got[2]) == 2:
                memory[reader] = got[2][1] / got[2][0]
    medians = {reader: statistics.median(values) for reader, values in seconds.items()}
    result: dict[str, Any] = {
        "case": name,
        "median_s": medians,
        "runs_s": seconds,
        "processor_s": {reader: statistics.median(values) for reader, values in worked.items()},
        "cannot": sorted(failed - set(seconds)),
        "peak_memory_per_array_byte": memory,
    }
    if name in TARGETS and TARGETS[name][0] in medians:
        other, aim = TARGETS[name]
        result["ratio"], result["against"], result["aim"] = medians["ours"] / medians[other], other, aim
        pairs = zip(seconds["ours"], seconds[other], strict=False)
        result["ratios"] = sorted(a / b for a, b in pairs)
        processor = zip(worked["ours"], worked[other], strict=False)
        result["processor_ratios"] = sorted(a / b for a, b in processor)
    if path.is_dir():
        counted = timed([sys.executable, "-W", "ignore", "-c", f"path = {str(path)!r}\n{COUNT}"], compiled)
        result["most_opens_of_a_file"] = counted[2][0] if counted else None
    return result


def show(result: dict[str, Any]) -> None:
    """Print one case as a Markdown table."""
    print(f"\n### {result['case']}\n")
    print("| reader | median s | fastest to slowest | × ours | processor s | peak memory / array |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    ours = result["median_s"]["ours"]
    for reader, value in sorted(result["median_s"].items(), key=lambda pair: pair[1]):
        runs = result["runs_s"][reader]
        peak = result["peak_memory_per_array_byte"].get(reader)
        said = f"{peak:.2f}" if peak is not None and "first" not in reader else ""
        spread = f"{min(runs):.2f} to {max(runs):.2f}"
        print(
            f"| {reader} | {value:.2f} | {spread} | {value / ours:.2f} | {result['processor_s'][reader]:.2f} | {said} |"
        )
    if result["cannot"]:
        print(f"\nCannot read this, or is not installed: {', '.join(result['cannot'])}.")
    if "ratio" in result:
        met = "met" if result["ratio"] <= result["aim"] else "MISSED"
        low, high = result["ratios"][0], result["ratios"][-1]
        print(
            f"\nours / {result['against']} = {result['ratio']:.2f} (runs {low:.2f} to {high:.2f}; aim: at most {result['aim']}, {met})"
        )
        shares = result["processor_ratios"]
        middle = statistics.median(shares)
        print(f"\nof the processor's seconds: {middle:.2f} (runs {shares[0]:.2f} to {shares[-1]:.2f})")
    peak = result["peak_memory_per_array_byte"].get("ours")
    if peak is not None and result["case"] in TARGETS:
        print(
            f"\npeak memory = {peak:.2f} × the array (aim: at most {MEMORY}, {'met' if peak <= MEMORY else 'MISSED'})"
        )
    if "most_opens_of_a_file" in result:
        print(f"\neach file opened at most {result['most_opens_of_a_file']} time(s)", flush=True)


def main() -> None:
    """Make the cases, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--slices", type=int, default=500)
    parser.add_argument("--quick", action="store_true", help="100 slices, 3 runs: shows that it works, not how fast")
    parser.add_argument("--cases", nargs="+", default=[*SYNTAXES, "nifti", "cine", "tree"])
    parser.add_argument(
        "--keep", type=Path, default=None, help="write the cases here, and take those that are there already"
    )
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    if options.quick:
        options.slices, options.runs = 100, 3
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"The machine is busy (load {load:.1f}): do not quote these numbers.")
    results = []
    with tempfile.TemporaryDirectory() as compiled:
        for name in options.cases:
            with tempfile.TemporaryDirectory() as folder:
                path, readers = make_case(name, options.keep or Path(folder), options.slices)
                results.append(measure(name, path, readers, options.runs, Path(compiled)))
            show(results[-1])
    if options.json:
        options.json.write_text(json.dumps({"load": load, "processors": os.cpu_count(), "results": results}, indent=1))


if __name__ == "__main__":
    main()
