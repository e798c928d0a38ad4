"""How the examples are run by the site: pictures come from matplotlib, without a screen."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams.update({"figure.dpi": 90, "figure.figsize": (7, 3.5), "figure.constrained_layout.use": True})
conf = {"min_reported_time": 1}
