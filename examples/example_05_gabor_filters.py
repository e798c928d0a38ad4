"""
# Gabor filters

A bank of Gabor filters responds where the image contains a texture of a given wavelength and direction. Wavelengths
are in millimetres, so the same bank works for scans with other pixel sizes.
"""

import matplotlib.pyplot as plt
import numpy as np

import napari_medseq as ms
from napari_medseq.preprocessing import Gabor, gabor_kernel, gabor_responses
from napari_medseq.synthetic import make_study

image = make_study().visits[0].images[0]
z = 13
slice_of_it = image.like(image.data[z : z + 1])
bank = Gabor(frequencies=(0.08, 0.16), orientations=4, gamma=0.5)

# %%
# The filters: two wavelengths (12.5 and 6.25 mm), four directions.
spacing = (image.spacing["y"], image.spacing["x"])
fig, axes = plt.subplots(2, 4)
for row, frequency in zip(axes, bank.frequencies, strict=True):
    for ax, angle in zip(row, bank.angles, strict=True):
        ax.imshow(gabor_kernel(frequency, angle, spacing=spacing, gamma=bank.gamma).real, cmap="gray")
        ax.set_title(f"{1 / frequency:g} mm, {angle:g}°", fontsize=8)
        ax.axis("off")
plt.show()

# %%
# The response of each filter to the slice, and the energy of all filters.
found = gabor_responses(slice_of_it, settings=bank)
fig, axes = plt.subplots(2, 4)
for ax, one in zip(axes.flat, found, strict=True):
    ax.imshow(one.magnitude.data[0], cmap="viridis")
    ax.set_title(f"{1 / one.frequency:g} mm, {one.angle:g}°", fontsize=8)
    ax.axis("off")
plt.show()

# %%
# As a step: the image becomes the energy of all responses, and records how it was made.
energy = ms.preprocess(slice_of_it, bank)
print(energy.meta["steps"])
fig, axes = plt.subplots(1, 2)
for ax, seq, title in zip(axes, (slice_of_it, energy), ("image", "Gabor energy"), strict=True):
    ax.imshow(seq.data[0], cmap="gray", vmax=np.percentile(seq.data, 99.5))
    ax.set_title(title)
    ax.axis("off")
plt.show()
