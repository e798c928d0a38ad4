"""
# See what changed between two visits

Show a map of what is new, gone, grown and shrunk, a checkerboard of the two images, and their difference with matched
grey levels. In the viewer, the *Compare* widget shows the same, side by side and as overlays.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap

import napari_medseq as ms
from napari_medseq.progression.changemap import CHANGES
from napari_medseq.synthetic import make_study
from napari_medseq.volumes.blending import checkerboard, difference, match_intensities
from napari_medseq.volumes.foreground import foreground

study = make_study()
first, last = study.visits[0], study.visits[-1]
transform = ms.register(first.images[0], last.images[0])
progression = ms.track(
    [first.labels[0], last.labels[0]],
    dates=[first.date, last.date],
    transforms=[np.eye(4), transform.linear],
)
changed = progression.change_map(0, 1)
for value, count in zip(*np.unique(changed.data, return_counts=True), strict=True):
    print(f"{CHANGES.get(int(value), 'no lesion'):>16} {count}")

# %%
# The earlier image on the later grid, with grey levels matched to the later scan where both show tissue:

before, after = transform.apply(first.images[0]).volume_zyx(), last.images[0].volume_zyx()
heads = foreground(before), foreground(after)
scale, offset = match_intensities(before, after, heads[0] & heads[1], ~heads[0] & ~heads[1])
matched = scale * before + offset

# %%
volume = changed.volume_zyx()
z = int(np.argmax((volume > 1).sum(axis=(1, 2))))
fig, axes = plt.subplots(1, 3, figsize=(10, 4))
axes[0].imshow(checkerboard(matched, after, (0, 24, 24))[z], cmap="gray")
axes[1].imshow(difference(matched, after)[z], cmap="PuOr_r", vmin=-300, vmax=300)
axes[2].imshow(after[z], cmap="gray")
colours = ListedColormap(["#999999", "#d55e00", "#0072b2", "#f0e442", "#56b4e9", "#cc79a7"])
axes[2].imshow(np.ma.masked_equal(volume[z], 0), cmap=colours, vmin=0.5, vmax=6.5)
for ax, title in zip(axes, ("checkerboard", "later − earlier", "what changed"), strict=True):
    ax.set_title(title)
    ax.axis("off")
plt.show()
