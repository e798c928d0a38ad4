"""
# Open a folder with everything in it

A folder with a DICOM series, a NIfTI file and a mask, all mixed: `ms.info` lists what is there from the headers alone, `ms.read` opens each
series as an `ImageSequence` with named axes and a place in the patient.
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
# What is in the folder, without decoding anything:

for series in ms.info(folder / "inbox")["series"]:
    print(series["format"], series["kind"], series["shape"], series["name"])

# %%
# All of it. Axes are asked by name, whatever the file's own order was:

found = ms.read(folder / "inbox")
fig, axes = plt.subplots(1, len(found))
for ax, seq in zip(axes, found, strict=True):
    volume = seq.volume_zyx()
    ax.imshow(volume[seq.size("z") // 2], cmap="gray", aspect=seq.spacing["y"] / seq.spacing["x"])
    ax.set_title(f"{seq.kind}, {seq.modality or 'no modality'}\n{seq.name}", fontsize=8)
    ax.axis("off")
plt.show()
