"""
# Classify, and ask why

`ms.classify` returns probabilities for the whole exam and for every slice. `ms.explain` shows which parts of the
image they are based on.
"""

import matplotlib.pyplot as plt

import napari_medseq as ms
from napari_medseq.synthetic import make_study

image = make_study().visits[0].images[0]
answer = ms.classify(image, "brain-tumor-slices")
print({name: round(p, 3) for name, p in answer.probabilities.items()})
seen = ms.explain(image, "brain-tumor-slices")

# %%
per_slice = answer.per_step[:, -1]
z = int(per_slice.argmax())
fig, axes = plt.subplots(1, 2)
axes[0].plot(per_slice, label="probability")
axes[0].plot(answer.attention / answer.attention.max(), ":", label="attention (relative)")
axes[0].axvline(z, color="grey", lw=0.8)
axes[0].set(xlabel="slice", ylim=(0, 1.05))
axes[0].legend()
axes[1].imshow(image.data[z], cmap="gray")
axes[1].imshow(seen.data[z], cmap="inferno", alpha=0.5)
axes[1].set_title(f"what speaks for it, slice {z}")
axes[1].axis("off")
plt.show()
