"""
# Train on one image, or on a folder of them

A training run needs only a folder of patients and a short config. To show the calls, this folder has one image with
its mask, and training takes half a minute. The result is a bundle that you can use in `ms.segment` and the widgets.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import napari_medseq as ms
from napari_medseq.synthetic import make_study

folder = Path(tempfile.mkdtemp())
visit = make_study().visits[0]
place = folder / "patients" / "sub-01" / f"{visit.date}"
place.mkdir(parents=True)
ms.write(visit.images[0], place / "T1post.nii.gz")
ms.write(visit.labels[0], place / "T1post_tumor.nii.gz")
config = {
    "name": "small",
    "data": [str(folder / "patients")],
    "image": "*T1post",
    "labels": "*_tumor",
    "modality": "MR",
    "network": {"_target_": "RecurrentUNet", "widths": [8, 16, 24], "rnn_levels": [2], "hidden": 16},
    "loop": {"iterations": 60, "steps": 4, "size": [96, 96], "batch": 1, "rate": 0.005},
    "out": str(folder / "small"),
}
result = ms.train(config)
print(result.model.info.name, "with", f"{sum(w.numel() for w in result.model.network.parameters()):,}", "weights")

# %%
# The loss over the iterations, and the prediction for a slice of another patient:

visit = make_study(1).visits[0]
image, z = visit.images[0], 13
probability = ms.segment(image, result.model, outputs=("labels", "probability")).probability
fig, axes = plt.subplots(1, 2)
axes[0].plot(result.curve["iteration"], result.curve["loss"])
axes[0].set(xlabel="iteration", ylabel="loss")
axes[1].imshow(image.data[z], cmap="gray")
axes[1].imshow(probability.data[z], cmap="magma", alpha=0.5, vmin=0, vmax=1)
axes[1].axis("off")
plt.show()
