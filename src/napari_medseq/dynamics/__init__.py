"""Dynamic series: enhancement curves of a region over time, and what a beating heart pumps (cine)."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
