"""The share of bright pixels from which on a row or column belongs to the foreground: what is lost, what is saved.

    python benchmarks/foreground.py [--most 30]

Inference looks only at the rows and columns that hold the foreground of some step (``inference.inputs.frame``). For real patients with
expert masks and for several shares: in how many patients a voxel of the mask lies outside the crop, the largest part of a mask
that does, and the mean area of the crop. Of 94 images no mask lost a voxel at any of these shares; `_FOREGROUND_SHARE` is a quarter
of the largest. Prints a table; about two minutes.
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path

import numpy as np

import napari_medseq as ms
from napari_medseq.inference.inputs import frame

DATA = Path(os.environ.get("MEDSEQ_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
SHARES = (0.0, 0.01, 0.02, 0.04, 0.08, 0.16)
#: set → images, and what of an image's path becomes what in its mask's
SETS = {
    "brain T1 after contrast": ("brain-tumor-progression/*/*/*_T1post.nii.gz", "_T1post", "_tumor"),
    "brain FLAIR": ("glioma-flair/*/FLAIR.nii.gz", "FLAIR", "tumor"),
    "hippocampus MR (cut out)": ("hippocampus/images/*.nii.gz", "images", "labels"),
    "sarcoma CT (cut out)": ("sarcoma/nifti/*/CT_image.nii.gz", "_image", "_mask"),
    "sarcoma PET (cut out)": ("sarcoma/nifti/*/PET_image.nii.gz", "_image", "_mask"),
    "sarcoma MR (cut out)": ("sarcoma/nifti/*/MR_T1_image.nii.gz", "_image", "_mask"),
    "lung nodule CT (cut out)": ("lung-nodules/*/*/CT.nii.gz", "CT.nii", "CT_mask.nii"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=30, help="images of each set")
    a = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} is not there; set MEDSEQ_DATA to the folder of the real patients.")
    warnings.simplefilter("ignore")
    print("| set | images | " + " | ".join(f"{s:g}" for s in SHARES) + " |\n|---|---:|" + "---|" * len(SHARES))
    for name, (pattern, old, new) in SETS.items():
        paths = sorted(DATA.glob(pattern))
        paths = [p for p in paths if Path(str(p).replace(old, new)).is_file()][:: max(1, len(paths) // a.most)]
        cells = []
        pairs = [
            (ms.read(p, kind="image")[0], ms.read(str(p).replace(old, new), kind="labels")[0]) for p in paths[: a.most]
        ]
        for share in SHARES:
            frame._FOREGROUND_SHARE = share
            lost, area = zip(*(outside(image, mask) for image, mask in pairs), strict=True) if pairs else ((), ())
            if pairs:
                cells.append(f"{sum(x > 0 for x in lost)} lose up to {max(lost):.1%}; area {np.mean(area):.2f}")
        if cells:
            print(f"| {name} | {len(pairs)} | " + " | ".join(cells) + " |", flush=True)


def outside(image: ms.ImageSequence, mask: ms.ImageSequence) -> tuple[float, float]:
    """Part of a mask that lies outside the crop, and part of the image that the crop is."""
    framing = frame.frame([image], along="slices", pixel_mm=None, stride=1)
    inside = np.moveaxis(np.asarray(mask.data) > 0, mask.axes.index(framing.axes[0]), 0)
    r0, r1, c0, c1 = framing.crop
    kept = inside[:, r0:r1, c0:c1].sum() / max(1, inside.sum())
    return float(1 - kept), (r1 - r0) * (c1 - c0) / float(np.prod(framing.size))


if __name__ == "__main__":
    main()
