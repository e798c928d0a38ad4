"""
# Register two visits

The patient was positioned differently at the second visit. `ms.register` finds the rigid transform and states how far
you can trust it.
"""

import matplotlib.pyplot as plt
import numpy as np

import napari_medseq as ms
from napari_medseq.synthetic import make_study

study = make_study()
first, second = (visit.images[0] for visit in study.visits[:2])
transform = ms.register(second, first)
quality = transform.quality
print(f"shift {quality.shift_mm:.1f} mm, rotation {quality.rotation_deg:.1f}°, trustworthy: {quality.trustworthy}")
print(f"error that the registration states: {quality.error_mm:.2f} mm")

# %%
# Red is the first visit, green the second: before, and on the first visit's grid after.


def overlay(one, other):
    channels = [np.clip(v / np.percentile(v, 99.5), 0, 1) for v in (one, other)]
    return np.stack([channels[0], channels[1], np.zeros_like(channels[0])], -1)


moved = transform.apply(second)
z = 14
fig, axes = plt.subplots(1, 2)
before = ms.preprocess(second, "resample", reference=first)
for ax, seq, title in zip(axes, (before, moved), ("as acquired", "registered"), strict=True):
    ax.imshow(overlay(first.volume_zyx()[z], seq.volume_zyx()[z]))
    ax.set_title(title)
    ax.axis("off")
plt.show()
