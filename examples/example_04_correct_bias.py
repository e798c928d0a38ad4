"""
# Correct the bias field

MR images are brighter near the coil. N4 estimates this bias field and divides the image by it.
"""

import matplotlib.pyplot as plt
import numpy as np

import napari_medseq as ms
from napari_medseq.synthetic import make_study

image = make_study().visits[1].images[0]
corrected = ms.preprocess(image, "n4")
print(corrected.meta["steps"])

# %%
z = 12
before, after = image.volume_zyx()[z].astype(float), corrected.volume_zyx()[z].astype(float)
field = np.where(before > 0.1 * before.max(), before / np.maximum(after, 1e-3), np.nan)
fig, axes = plt.subplots(1, 3)
for ax, picture, title in zip(axes, (before, field, after), ("acquired", "field", "corrected"), strict=True):
    ax.imshow(picture, cmap="gray" if title != "field" else "viridis")
    ax.set_title(title)
    ax.axis("off")
fig.colorbar(axes[1].images[0], ax=axes[1], shrink=0.7)
plt.show()
