"""
# Segment tumours

`ms.segment` sends the slices through a recurrent network, one after the other, and returns the labels on the grid of
the image. The true outline is known here, so `ms.evaluate` can measure the accuracy.
"""

import matplotlib.pyplot as plt
import numpy as np

import napari_medseq as ms
from napari_medseq.synthetic import make_study

visit = make_study().visits[2]
image, truth = visit.images[0], visit.labels[0]
result = ms.segment(image, "brain-tumor", outputs=("labels", "probability"))
table = ms.evaluate(result.labels, truth).table
print(table[["dice", "hd95_mm", "lesion_sensitivity", "lesion_precision"]].round(2).to_string(index=False))

# %%
z = int(np.asarray(truth.data).sum((1, 2)).argmax())
fig, axes = plt.subplots(1, 2)
for ax in axes:
    ax.imshow(image.data[z], cmap="gray")
    ax.axis("off")
axes[0].contour(truth.data[z], [0.5], colors="tab:green")
axes[0].contour(result.labels.data[z], [0.5], colors="tab:red")
axes[0].set_title("expert green, model red")
axes[1].imshow(result.probability.data[z], cmap="magma", alpha=0.6, vmin=0, vmax=1)
axes[1].set_title("probability")
plt.show()
