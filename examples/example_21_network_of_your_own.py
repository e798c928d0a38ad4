"""
# A network of your own

This network has three convolutions per slice in a dozen lines. Because it derives from `Stepwise`, it can be trained,
streamed and saved like the built-in networks. Here, it is registered by hand; your own package would use an entry
point ([how](../how-to/add-a-network.md)).
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from torch import nn

import napari_medseq as ms
from napari_medseq.models.registry import register
from napari_medseq.models.stepwise import Stepwise


@register("PlainNet")
class PlainNet(Stepwise):
    """Logits of each slice by itself."""

    slab = 1

    def __init__(self, classes: int = 2, in_channels: int = 1, width: int = 8) -> None:
        super().__init__()
        self.classes, self.neighbours = classes, 0
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, classes, 1),
        )

    def forward(self, x):
        return self.layers(x.flatten(0, 1)).unflatten(0, x.shape[:2])


# %%
# One small image is enough for a demonstration: a ball with a little noise.

distance = np.linalg.norm(np.indices((12, 32, 32)) - np.array([6, 16, 16])[:, None, None, None], axis=0)
noise = np.random.default_rng(0).normal(0, 3, distance.shape)
image = ms.ImageSequence(
    data=(100.0 * (distance < 6) + 20 + noise).astype(np.float32),
    axes=("z", "y", "x"),
    affine=np.diag([1.0, 1.0, 2.0, 1.0]),
    modality="MR",
)
ball = image.labels_like((distance < 6).astype(np.uint8), name="ball", label_names={1: "ball"}, modality=None)
folder = Path(tempfile.mkdtemp())
visit = folder / "patients" / "sub-01" / "2020-01-31"
visit.mkdir(parents=True)
ms.write(image, visit / "scan.nii.gz")
ms.write(ball, visit / "scan_mask.nii.gz")
result = ms.train(
    {
        "name": "balls",
        "data": [str(folder / "patients")],
        "image": "scan",
        "labels": "scan_mask",
        "classes": {1: "ball"},
        "network": {"_target_": "PlainNet"},
        "loop": {"iterations": 40, "steps": 4, "size": [32, 32], "batch": 1, "rate": 0.02, "validate_every": 20},
        "out": str(folder / "balls"),
    }
)
found = ms.segment(image, result.model).labels
print("Dice", round(float(ms.evaluate(found, ball).table["dice"].iloc[0]), 2))

# %%
fig, axes = plt.subplots(1, 2)
axes[0].plot(result.curve["iteration"], result.curve["loss"])
axes[0].set(xlabel="iteration", ylabel="loss")
axes[1].imshow(image.data[6], cmap="gray")
axes[1].contour(found.data[6], [0.5], colors="tab:red")
axes[1].axis("off")
plt.show()
