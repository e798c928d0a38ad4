"""
# Outline every second slice, fill in the rest

The editing tools of the viewer are functions of arrays and millimetres. Here, a lesion of the synthetic patient is
outlined on every second slice. The slices between are interpolated, and a margin of 3 mm is added around the lesion.
Other labels are never overwritten.
"""

import matplotlib.pyplot as plt
import numpy as np

from napari_medseq import masks
from napari_medseq.geometry import spacing
from napari_medseq.synthetic import make_study, make_truth

image, truth = make_study().visits[0].images[0], make_truth().labels[0]
labels = np.asarray(truth.data)
largest = int(np.bincount(labels[labels > 0]).argmax())
z, y, x = (float(mm) for mm in spacing(truth.affine)[::-1])
print(f"lesion {largest}, voxels of {x:.2f} × {y:.2f} × {z:.2f} mm")

# %%
# What a person would paint: the first slice, the last one, and every second between them.

slices = np.flatnonzero((labels == largest).any(axis=(1, 2)))
painted = labels.copy()
for k in slices[1:-1]:
    if (k - slices[0]) % 2:
        painted[k][painted[k] == largest] = 0

filled = masks.interpolate_slices(painted, [largest], axis=0, pixel=(y, x))
one, other = labels == largest, filled == largest
print(f"Dice of the interpolated lesion with the true one: {2 * (one & other).sum() / (one.sum() + other.sum()):.3f}")

# %%
# Write the margin back as a label, without overwriting other lesions.

wide = masks.put(filled, largest, masks.margin(other, (z, y, x), 3.0))
assert np.array_equal(wide[(filled > 0) & ~other], filled[(filled > 0) & ~other])

# %%
between = int(next(k for k in slices if (k - slices[0]) % 2 == 1))
fig, axes = plt.subplots(1, 3)
for ax, (title, mask) in zip(
    axes, {"painted": painted, "interpolated": filled, "margin of 3 mm": wide}.items(), strict=True
):
    ax.imshow(image.data[between], cmap="gray")
    if (mask[between] == largest).any():
        ax.contour(mask[between] == largest, [0.5], colors="tab:orange")
    ax.set_title(title, fontsize=9)
    ax.axis("off")
plt.show()
