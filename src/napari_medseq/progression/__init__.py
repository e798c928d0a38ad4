"""Lesion tracking: matching lesions between visits, measuring their change and its uncertainty, response rules, plots
and reports."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
