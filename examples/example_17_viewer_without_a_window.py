"""
# Script the viewer without a window

Every button of the widgets calls a function in `napari_medseq.viewer`. These functions work on napari's
`ViewerModel`, which needs neither Qt nor a screen, so the same script runs on a server.
"""

import tempfile

import matplotlib.pyplot as plt
from napari.components import ViewerModel

from napari_medseq import viewer as view
from napari_medseq.synthetic import sample_study

viewer = ViewerModel()
folder = sample_study(tempfile.mkdtemp())
view.open_path(viewer, folder)
print(viewer.dims.axis_labels, [layer.name for layer in viewer.layers])

# %%
# What the button *Run* of the widget *Progression* does; the label layers show identities:

progression = view.run(viewer, "brain-tumor")
print(progression.summary.round(1).to_string(index=False))
labels = view.label_layers(viewer)

# %%
fig, axes = plt.subplots(1, len(labels))
for visit, (ax, layer) in enumerate(zip(axes, labels, strict=True)):
    seq = view.to_sequence(layer)
    z = int((seq.volume_zyx() > 0).sum((1, 2)).argmax())
    ax.imshow(seq.volume_zyx()[z], cmap="tab20", interpolation="nearest")
    ax.set_title(f"visit {visit}: {layer.name}", fontsize=7)
    ax.axis("off")
plt.show()
