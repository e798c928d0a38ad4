"""
# Locate lesions

Find boxes and centres in patient millimetres, and then let a segmentation model process only these regions.
"""

import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle

import napari_medseq as ms
from napari_medseq.synthetic import make_study

image = make_study().visits[0].images[0]
found = ms.locate(image, "brain-tumor")
for place in found.found:
    print(f"{place.score:.2f} at", tuple(round(v) for v in place.centre_mm), "mm")

# %%
z = 13
fig, ax = plt.subplots(figsize=(4, 4.4))
ax.imshow(image.data[z], cmap="gray")
for place in found.found:
    (z0, z1), (y0, y1), (x0, x1) = (place.box[axis] for axis in ("z", "y", "x"))
    if z0 <= z < z1:
        ax.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, color="tab:orange", lw=2))
        ax.text(x0, y0 - 2, f"{place.score:.2f}", color="tab:orange")
ax.axis("off")
plt.show()
