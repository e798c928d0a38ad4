"""Is a change real? The same scan moved, resampled and noised, with known lesions put in, through the same model again."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
