"""Voxels that are said to be labels: whole numbers in a type that viewers and files take."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np


def as_labels(values: Any) -> tuple[Any, bool]:
    """Whole-number version of `values` (lazy stays lazy), and whether they were whole numbers."""
    if values.dtype.kind in "iu":
        return values, True
    if values.dtype.kind == "b":
        return values.astype(np.uint8), True
    if values.dtype.kind != "f":
        return values, False
    lazy = hasattr(values, "dask")
    finite, low, high, whole = np.isfinite(values).all(), values.min(), values.max(), (values == np.rint(values)).all()
    if lazy:
        dask: Any = import_module("dask")
        finite, low, high, whole = dask.compute(finite, low, high, whole)
    if not finite or not whole:
        return values, False
    wanted = next(
        (
            t
            for t in (np.uint8, np.int16, np.uint16, np.int32, np.int64)
            if np.iinfo(t).min <= low and high <= np.iinfo(t).max
        ),
        None,
    )
    return (values, False) if wanted is None else (values.astype(wanted), True)
