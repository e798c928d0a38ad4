"""
# Many patients

`run_cohort` processes every patient in a folder, writes a table, and resumes after an interruption. A patient that
fails does not stop the others: one of these folders has no image.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

from napari_medseq.cohort import run_cohort
from napari_medseq.synthetic import sample_study

folder = Path(tempfile.mkdtemp())
for seed in (0, 1):
    sample_study(folder / "patients" / f"patient-{seed}", seed)
(folder / "patients" / "patient-2").mkdir()
(folder / "patients" / "patient-2" / "notes.txt").write_text("no scan yet")
table = run_cohort(sorted((folder / "patients").iterdir()), "brain-tumor", folder / "results")
print(table[["study", "status", "visits", "lesions", "first_ml", "last_ml"]].round(1).to_string(index=False))

# %%
done = table[table["status"] == "done"]
fig, ax = plt.subplots()
for _, row in done.iterrows():
    ax.plot([0, 1], [row["first_ml"], row["last_ml"]], "-o", label=row["study"])
ax.set_xticks([0, 1], ["first visit", "last visit"])
ax.set_ylabel("burden (mL)")
ax.legend()
plt.show()
