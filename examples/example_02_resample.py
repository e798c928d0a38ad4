"""
# Resample

Resample thick slices to cubes of 2 mm. The new grid uses the same patient millimetres, so the result is aligned with
the original.
"""

import matplotlib.pyplot as plt

import napari_medseq as ms
from napari_medseq.preprocessing import Resample
from napari_medseq.synthetic import make_study

image = make_study().visits[0].images[0]
cubes = ms.preprocess(image, Resample(spacing=2.0))
print(image.spacing, "→", cubes.spacing)

# %%
# A coronal slice before and after; the aspect ratio comes from the spacing.

fig, axes = plt.subplots(1, 2)
for ax, seq in zip(axes, (image, cubes), strict=True):
    middle = seq.volume_zyx()[::-1, seq.size("y") // 2]
    ax.imshow(middle, cmap="gray", aspect=seq.spacing["z"] / seq.spacing["x"])
    ax.set_title(f"{seq.size('z')} slices of {seq.spacing['z']:.1f} mm")
    ax.axis("off")
plt.show()
