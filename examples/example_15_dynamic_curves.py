"""
# Curves of a dynamic series

A series with frames has an axis `t` and the true time of each frame, evenly spaced or not. The mean of each lesion
over time gives its curve, and the measures are computed from the curve.
"""

import matplotlib.pyplot as plt
import numpy as np

from napari_medseq.dynamics.enhancement import curve_measures, plot_curves, time_intensity
from napari_medseq.synthetic import make_study, make_truth

still, lesions = make_study().visits[0].images[0], make_truth().labels[0]

# %%
# The lesions of the synthetic patient enhance at different speeds:

times = np.array([0.0, 6, 12, 20, 30, 45, 60, 90, 120])
gain = np.ones((len(times), *still.data.shape), np.float32)
for lesion in np.unique(lesions.data)[1:]:
    pace = 8.0 * lesion
    gain[:, lesions.data == lesion] += (1 - np.exp(-times / pace) * (1 + times / 400))[:, None].astype(np.float32)
series = still.replace(
    data=(gain * still.data).astype(np.float32), axes=("t", "z", "y", "x"), times=times, name="dynamic"
)
curves = time_intensity(series, lesions)
print(
    curve_measures(curves)[["lesion", "enhancement_percent", "time_to_peak_s", "wash_in_per_s"]]
    .round(1)
    .to_string(index=False)
)

# %%
fig, ax = plt.subplots()
plot_curves(curves, ax)
ax.set(xlabel="time (s)", ylabel="mean intensity")
plt.show()
