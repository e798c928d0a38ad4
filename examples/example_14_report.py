"""
# Write a report

The report is one HTML file with tables, curves and key slices. You can send or archive it, because it needs no other
files and no network.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import napari_medseq as ms
from napari_medseq.synthetic import make_study

study = make_study()
images = [visit.images[0] for visit in study.visits]
progression = ms.track([visit.labels[0] for visit in study.visits], dates=study.dates, images=images)
path = progression.report(Path(tempfile.mkdtemp()) / "report.html", rules=("rano-2.0",), name="synthetic patient")
print(path.name, f"{path.stat().st_size / 1e6:.1f} MB")

# %%
# The largest slice of lesion 5 at each visit, as in the report:

fig, axes = plt.subplots(1, len(images))
for ax, image, labels, day in zip(axes, images, progression.labels, study.dates, strict=True):
    own = np.asarray(labels.data) == 5
    z = int(own.sum((1, 2)).argmax())
    ax.imshow(image.data[z], cmap="gray")
    ax.contour(own[z], [0.5], colors="tab:orange")
    ax.set_title(f"{day}: {own.sum() * np.prod(list(labels.spacing.values())) / 1000:.1f} mL", fontsize=9)
    ax.axis("off")
plt.show()
