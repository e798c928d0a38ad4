"""Make the sample patient anew: ``python sample_data/make_sample.py [folder]``.

Three visits of a synthetic head, as NIfTI (``study/``), as DICOM (``dicom/``), and what is true of it (``truth/``).
There is no real patient behind it. The same script gives the same files.
"""

from __future__ import annotations

import sys
from pathlib import Path

from napari_medseq.synthetic import make_study, make_truth, sample_study, write_dicom, write_truth

SEED = 0


def main(folder: str | Path) -> None:
    """Write the sample into `folder`."""
    root = Path(folder)
    sample_study(root / "study", SEED)
    write_truth(make_truth(SEED), root / "truth")
    write_dicom(make_study(SEED), root / "dicom")
    print(f"The sample patient lies in {root}: study, truth, dicom.")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
