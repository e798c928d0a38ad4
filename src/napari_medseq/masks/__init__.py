"""Editing operations on masks, as plain arrays with spacing in millimetres: margins, islands, growing, interpolation
between slices, overlap.

Every function returns a new array. Functions on labels change one label only: it gains background or loses voxels of
its own, so that no voxel of another label ever changes. `tools` holds each operation with its settings, as the viewer
and scripts use them.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
