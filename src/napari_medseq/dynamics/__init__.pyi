from .beat import Beat as Beat
from .beat import measure_beat as measure_beat
from .cine import Ejection as Ejection
from .cine import ejection as ejection
from .cine import thickening as thickening
from .cine import volume_time as volume_time
from .cine import wall_thickness as wall_thickness
from .enhancement import curve_measures as curve_measures
from .enhancement import plot_curves as plot_curves
from .enhancement import time_intensity as time_intensity

__all__ = [
    "Beat",
    "Ejection",
    "curve_measures",
    "ejection",
    "measure_beat",
    "plot_curves",
    "thickening",
    "time_intensity",
    "volume_time",
    "wall_thickness",
]
