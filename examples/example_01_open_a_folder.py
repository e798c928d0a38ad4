"""
# Open a folder with everything in it

This folder mixes a DICOM series, a NIfTI file and a mask. `ms.info` lists its content from the headers alone, and
`ms.read` opens each series as an `ImageSequence` with named axes and a position in the patient.
"""

import shutil
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import napari_medseq as ms
from napari_medseq.synthetic import make_study, write_dicom

study = make_study()
folder = Path(tempfile.mkdtemp())
shutil.copytree(write_dicom(study, folder / "all") / "ses-20200131", folder / "inbox")
ms.write(study.visits[1].images[0], folder / "inbox" / "second.nii.gz")
ms.write(study.visits[1].labels[0], folder / "inbox" / "second_seg.nrrd")

# %%
# List the content of the folder without decoding any pixels:

for series in ms.info(folder / "inbox")["series"]:
    print(series["format"], series["kind"], series["shape"], series["name"])

# %%
# Read everything. Access axes by name, whatever their order in the file:

found = ms.read(folder / "inbox")
fig, axes = plt.subplots(1, len(found))
for ax, seq in zip(axes, found, strict=True):
    volume = seq.volume_zyx()
    ax.imshow(volume[seq.size("z") // 2], cmap="gray", aspect=seq.spacing["y"] / seq.spacing["x"])
    ax.set_title(f"{seq.kind}, {seq.modality or 'no modality'}\n{seq.name}", fontsize=8)
    ax.axis("off")
plt.show()
