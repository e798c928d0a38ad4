"""Whether a change is real: the same scan is moved, resampled and noised, with known lesions added, and segmented by
the same model again."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
