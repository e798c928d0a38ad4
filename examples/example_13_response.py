"""
# Response criteria

Assess the same lesions with four published sets of rules. They apply the size criteria only: the result is a research
measure, never a clinical verdict.
"""

import matplotlib.pyplot as plt

import napari_medseq as ms
from napari_medseq.synthetic import make_study

study = make_study()
progression = ms.track([visit.labels[0] for visit in study.visits], dates=study.dates)
rules = ("recist-1.1", "rano-2.0", "rano-2.0-volumetric", "volumetric")
verdicts = {rule: progression.response(rule) for rule in rules}
for verdict in verdicts["rano-2.0"].verdicts:
    print(verdict.date, verdict.category, "|", verdict.reasons[0])

# %%
fig, ax = plt.subplots()
for rule, assessment in verdicts.items():
    changes = [0.0, *(v.change_from_baseline_percent for v in assessment.verdicts)]
    ax.plot(study.dates, changes, "-o", label=rule)
    ax.annotate(
        assessment.verdicts[-1].category, (study.dates[-1], changes[-1]), xytext=(4, 0), textcoords="offset points"
    )
ax.axhline(0, color="grey", lw=0.8)
ax.set_ylabel("change from the first visit (%)")
ax.legend(fontsize=8)
plt.show()
