"""
# Follow lesions over visits, and correct the result

`ms.track` assigns identities to the lesions of all visits and determines what happened to each. You can correct the
result: everything is updated, and every correction can be undone.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import napari_medseq as ms
from napari_medseq.synthetic import make_study

study = make_study()
progression = ms.track(
    [visit.labels[0] for visit in study.visits],
    dates=study.dates,
    images=[visit.images[0] for visit in study.visits],
)
print(progression.lesions[["visit", "lesion", "volume_ml", "event", "parents"]].round(2).to_string(index=False))

# %%
# The reader decides that lesion 8 is not a lesion. All results are updated; then the correction is undone:

progression.exclude(8)
print(8 in set(progression.lesions["lesion"]))
progression.undo()
print(8 in set(progression.lesions["lesion"]))

# %%
picture = Path(tempfile.mkdtemp()) / "progression.png"
progression.plot(picture)
fig, ax = plt.subplots(figsize=(9, 6.2))
ax.imshow(plt.imread(picture))
ax.axis("off")
plt.show()
