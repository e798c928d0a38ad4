"""Cohorts: the main job on many patients, on a Dask cluster or on this machine, into one folder with tables and a
report."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
