"""
# Teach a model from three slices

No shipped model knows this contrast: the grey values of the scan are inverted. Three slices are outlined. `ms.teach`
trains a model that labels all the others. Check the result, correct the worst slice, and teach again.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import napari_medseq as ms
from napari_medseq.synthetic import make_study

visit = make_study().visits[0]
truth = visit.labels[0]
values = np.asarray(visit.images[0].data, np.float32)
image = visit.images[0].replace(
    data=np.where(values > 60, np.percentile(values, 99.9) - values, 0).clip(0), name="unknown contrast"
)
painted = np.zeros_like(truth.data)
painted_slices = [9, 13, 17]
painted[painted_slices] = truth.data[painted_slices]

# %%
folder = Path(tempfile.mkdtemp())
settings = {"out": str(folder / "mine"), "start_from": "brain-tumor", "iterations": 25}
taught = ms.teach(image, truth.replace(data=painted), settings).model
before, after = (ms.segment(image, model).labels for model in ("brain-tumor", taught))
for name, labels in (("shipped", before), ("taught", after)):
    print(name, "Dice", round(float(ms.evaluate(labels, truth).table["dice"].iloc[0]), 2))

# %%
# A slice that was not painted:

z = 15
fig, axes = plt.subplots(1, 2)
for ax, labels, title in zip(axes, (before, after), ("shipped model", "after three slices"), strict=True):
    ax.imshow(image.data[z], cmap="gray")
    ax.contour(truth.data[z], [0.5], colors="tab:green")
    if labels.data[z].any():
        ax.contour(labels.data[z], [0.5], colors="tab:red")
    ax.set_title(f"{title} (expert green)")
    ax.axis("off")
plt.show()
