"""
# Open a study

Read it.
"""

# %%
import matplotlib.pyplot as plt

from napari_medseq.synthetic import make_study

study = make_study()
image = study.visits[0].images[0]
print(image.axes, image.data.shape)
plt.imshow(image.data[12], cmap="gray")
plt.show()
