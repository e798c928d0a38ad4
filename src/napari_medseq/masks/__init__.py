"""What annotators do to a mask, on plain arrays with spacing in millimetres: margins, islands, seeds, slices between painted ones.

Every function gives a new array. Those that take labels change one label only: they gain background and lose what is their own, so
that no voxel of another label ever changes. `tools` holds each of them with its settings, as the viewer and scripts use them.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
