"""Bounded fuzzing of the parsers: damaged DICOM (SEG and RTSTRUCT too), NIfTI, NRRD and MetaImage files, as many as fit in the time given.

Each file is made by code, damaged by a numbered seed, read, listed and (if it opens) looked at. Allowed: an image, or one
`MedseqError`. Not allowed: any other exception, more than `SLOW` seconds, more memory than `ROOM`, or a word of the patient's
name in what is said. The same seed makes the same file on every machine.

    python -m tests.fuzz_headers [--seconds 60] [--seed 0] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import gzip
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom.uid import UID

import napari_medseq as ms
from tests.unit.io import dicoms
from tests.unit.io.scanner import Scanner

SLOW, ROOM = 10.0, 3 << 30
SECRET = "Zzyzxquirina"


def corpus(folder: Path) -> dict[str, bytes]:
    """One sound file of each kind: name → bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    out: dict[str, bytes] = {}
    plain = dicoms.dataset(dicoms.picture(), PatientName=SECRET)
    out["plain.dcm"] = dicoms.save(plain, folder / "a").read_bytes()
    plain.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2")
    dicoms.pydicom.dcmwrite(folder / "b", plain, implicit_vr=True, little_endian=True)
    out["implicit.dcm"] = (folder / "b").read_bytes()
    packed = dicoms.dataset(dicoms.picture(), PatientName=SECRET)
    packed.compress("1.2.840.10008.1.2.5", encoding_plugin="pydicom", generate_instance_uid=False)
    out["rle.dcm"] = dicoms.save(packed, folder / "c").read_bytes()
    scan = Scanner(folder / "d")
    scan.folder.mkdir(exist_ok=True)
    scan.enhanced("enhanced", [("a", 0, (0, 0, 2.0 * z), {}) for z in range(3)], PatientName=SECRET)
    out["enhanced.dcm"] = (scan.folder / "enhanced").read_bytes()
    voxels = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    for name, image in (
        ("a.nii", nib.Nifti1Image(voxels, np.diag([1, 2, 3, 1]))),
        ("b.nii", nib.Nifti2Image(voxels, np.diag([-1, 2, 3, 1]))),
    ):
        nib.save(image, folder / name)
        out[name] = (folder / name).read_bytes()
    out["a.nii.gz"] = gzip.compress(out["a.nii"], mtime=0)
    seq = ms.read(folder / "a.nii")[0].replace(modality="MR")
    for ending in (".nrrd", ".mha"):
        out[f"a{ending}"] = ms.write(seq, folder / f"a{ending}").read_bytes()
    labels = seq.labels_like(np.asarray(seq.data) % 3, name="parts", label_names={1: "one", 2: "two"})
    dicoms.series(folder / "ct", [(0, 0, 2.5 * k) for k in range(3)], PatientName=SECRET)
    ct = ms.read(folder / "ct")[0]
    drawn = np.zeros(ct.data.shape, np.uint8)
    drawn[1:, 1:4, 1:4] = 1
    drawn[0, 2:, 3:] = 2
    masks = ct.labels_like(drawn, name="parts", label_names={1: "one", 2: "two"})
    out["seg.dcm"] = ms.write(masks, folder / "seg.dcm", reference=folder / "ct").read_bytes()
    written = ms.write(masks, folder / "rs.dcm", reference=folder / "ct", format="rtstruct")
    out["plan/rtstruct.dcm"] = written.read_bytes()
    out["a.seg.nrrd"] = ms.write(labels, folder / "a.seg.nrrd").read_bytes()
    return out


def damaged(sound: bytes, rng: random.Random) -> bytes:
    """A file with one to eight faults: bytes poked, lengths made huge, pieces cut, doubled or shortened."""
    raw = bytearray(sound)
    for _ in range(rng.randint(1, 8)):
        if not raw:
            break
        at = rng.randrange(min(len(raw), 2048)) if rng.random() < 0.8 else rng.randrange(len(raw))
        fault = rng.randrange(6)
        if fault == 0:
            raw[at] = rng.randrange(256)
        elif fault == 1:
            raw[at] ^= 1 << rng.randrange(8)
        elif fault == 2:
            raw[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\0\0\0\x80"))
        elif fault == 3:
            del raw[at : at + rng.randint(1, 40)]
        elif fault == 4:
            raw[at:at] = raw[at : at + rng.randint(1, 40)]
        elif rng.random() < 0.3:
            del raw[at:]
    return bytes(raw)


def complaint(path: Path) -> str:
    """What is wrong with how a damaged file is answered; "" if nothing is."""
    started = time.monotonic()
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        verbs: tuple[Callable[[Path], object], ...] = (ms.info, ms.read, lambda p: ms.read(p, lazy=True))
        for verb in verbs:
            try:
                found = verb(path)
                if isinstance(found, list):
                    for seq in found:
                        np.asarray(seq.data[(0,) * (seq.data.ndim - 1)])
                        said.append(repr((seq.name, seq.meta, seq.warnings)))
                else:
                    said.append(repr(found))
            except ms.MedseqError as error:
                said.append(str(error))
            except Exception:
                return traceback.format_exc()
    said.extend(str(w.message) for w in caught)
    if time.monotonic() - started > SLOW:
        return f"took {time.monotonic() - started:.1f} s"
    return "the patient's name is told" if SECRET.lower() in "\n".join(said).lower() else ""


def run(seconds: float, seed: int = 0, keep: Path | None = None) -> tuple[Counter[str], list[str]]:
    """Damage and read until the time is over.

    Returns
    -------
    counts, complaints
        Files tried, by kind; and what was wrong, each with its seed.
    """
    counts: Counter[str] = Counter()
    complaints: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        sound = corpus(Path(scratch) / "sound")
        (Path(scratch) / "plan").mkdir()
        (Path(scratch) / "sound" / "ct").rename(Path(scratch) / "ct")  # beside the structures, which need it
        names, stop = sorted(sound), time.monotonic() + seconds
        while time.monotonic() < stop:
            rng = random.Random(seed)
            name = names[seed % len(names)]
            path = Path(scratch) / name
            path.write_bytes(damaged(sound[name], rng))
            wrong = complaint(path)
            counts[name] += 1
            if wrong:
                complaints.append(f"seed {seed}, {name}: {wrong}")
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{seed}_{path.name}").write_bytes(path.read_bytes())
            seed += 1
    return counts, complaints


def command(description: str | None) -> argparse.ArgumentParser:
    """What every fuzzer is told."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def bound_memory() -> None:
    """Give this process no more than `ROOM`."""
    resource.setrlimit(resource.RLIMIT_AS, (ROOM, resource.getrlimit(resource.RLIMIT_AS)[1]))


def report(what: str, counts: Mapping[str, int], complaints: Sequence[str]) -> int:
    """Print what was found, and give the exit status: 1 if anything was answered wrongly."""
    print(f"{sum(counts.values())} damaged {what}: " + ", ".join(f"{n}: {c}" for n, c in sorted(counts.items())))
    for one in complaints[:20]:
        print(one)
    print(f"{len(complaints)} answered wrongly")
    return 1 if complaints else 0


def main() -> int:
    """Fuzz, print what was found, and say by the exit status whether anything was."""
    parser = command(__doc__)
    parser.add_argument("--keep", type=Path, default=None, help="a folder for the files that were answered wrongly")
    options = parser.parse_args()
    bound_memory()
    return report("files", *run(options.seconds, options.seed, options.keep))


if __name__ == "__main__":
    sys.exit(main())
