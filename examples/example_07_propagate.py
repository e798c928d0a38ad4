"""
# Paint one slice, get the others

This structure is not known to any trained model. Paint it on its largest slice, let `ms.propagate` carry it to all
others, and then paint the slice that is most in doubt.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy import ndimage

import napari_medseq as ms
from napari_medseq.synthetic import make_case

image, labels = make_case(102, shape_zyx=(32, 192, 192), spacing_zyx=(4.5, 1.12, 1.12))
lesions, _ = ndimage.label(np.asarray(labels.data) != 0, np.ones((3, 3, 3)))
truth = lesions == np.bincount(lesions[lesions > 0]).argmax()  # stands in for the person who paints

# %%
# Paint one slice. This works for any structure, because the network only uses what is painted:


def painted_on(steps):
    drawn = np.where(np.isin(np.arange(len(truth)), steps)[:, None, None], truth, 0).astype(np.uint8)
    return image.labels_like(drawn, name="painted", label_names={1: "lesion"})


def overlap(found, steps):
    """Dice over the slices that are not painted."""
    rest = np.setdiff1d(np.arange(len(truth)), steps)
    answer = np.asarray(found.labels.data)[rest] > 0
    return 2 * (answer & truth[rest]).sum() / (answer.sum() + truth[rest].sum())


steps = [int(truth.sum((1, 2)).argmax())]
found = ms.propagate(image, painted_on(steps), annotated=steps, device="cpu")
print(f"after slice {steps[0] + 1}: Dice {overlap(found, steps):.2f}, next to look at: slice {found.next_step + 1}")

# %%
# Paint the slice that is most in doubt, and propagate again. An empty slice in `annotated` marks the end of the object:

for _ in range(2):
    steps.append(found.next_step)
    found = ms.propagate(image, painted_on(steps), annotated=steps, device="cpu")
    print(f"after {len(steps)} slices: Dice {overlap(found, steps):.2f}")

# %%
# Painted slices are unchanged (orange); the others are predicted (green).

filled = np.flatnonzero(truth.any((1, 2)))
shown = np.unique(np.linspace(filled[0], filled[-1], 6).round().astype(int))
rows, columns = (np.flatnonzero(truth.any(axes)) for axes in ((0, 2), (0, 1)))
cut = slice(rows[0] - 12, rows[-1] + 13), slice(columns[0] - 12, columns[-1] + 13)
fig, axes = plt.subplots(1, len(shown), figsize=(2 * len(shown), 2.4))
for ax, step in zip(axes, shown, strict=True):
    ax.imshow(np.asarray(image.data)[step][cut], cmap="gray")
    answer = np.asarray(found.labels.data)[step][cut] > 0
    if answer.any():
        ax.contour(answer, [0.5], colors=["tab:orange" if step in steps else "tab:green"], linewidths=1.5)
    ax.set_title(f"slice {step + 1}", fontsize=9)
    ax.axis("off")
plt.show()
