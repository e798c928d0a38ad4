"""What changed between visits, lesion by lesion, and how sure we are: matching, measures, response, plots, report."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
