"""
# A preprocessing step of your own

A step is a frozen settings model with a `kind` and a method `apply_transform`. You can mix it with the built-in
steps, and it is stored in the record of the result. A step in your own installed package can be used by name
everywhere: see [how](../how-to/add-a-step.md).
"""

from typing import ClassVar, Literal

import matplotlib.pyplot as plt
import numpy as np
from pydantic import Field
from scipy import ndimage

import napari_medseq as ms
from napari_medseq.preprocessing import Step
from napari_medseq.synthetic import make_study


class Edges(Step):
    """Gradient magnitude at a scale in millimetres, so that thick slices are not blurred more than thin ones."""

    title: ClassVar[str] = "Edges"
    kind: Literal["edges"] = "edges"
    scale_mm: float = Field(
        2.0, gt=0, title="scale", description="Standard deviation of the Gaussian.", json_schema_extra={"unit": "mm"}
    )

    def apply_transform(self, seq, job):
        sigma = [self.scale_mm / seq.spacing[axis] for axis in ("z", "y", "x")]
        return job.map(seq, lambda volume: ndimage.gaussian_gradient_magnitude(volume.astype(np.float32), sigma))


image = make_study().visits[0].images[0]
edges = ms.preprocess(image, ["n4", Edges(scale_mm=1.5)])
print(edges.meta["steps"][-1])

# %%
z = 13
fig, axes = plt.subplots(1, 2)
for ax, seq, title in zip(axes, (image, edges), ("image", "edges at 1.5 mm"), strict=True):
    ax.imshow(seq.volume_zyx()[z], cmap="gray", vmax=np.percentile(seq.volume_zyx()[z], 99.5))
    ax.set_title(title)
    ax.axis("off")
plt.show()
