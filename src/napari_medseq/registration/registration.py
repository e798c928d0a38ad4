"""`register`: find the transform between two images, measure it, and refuse a result that cannot be trusted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from napari_medseq.errors import RegistrationError, SettingsError, warn
from napari_medseq.geometry import Affine
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.registration.linear import ROUNDS, Pair, prepared, search
from napari_medseq.registration.measure import Bending, Sampler
from napari_medseq.registration.optimise import Linear, Watch
from napari_medseq.registration.transform import Kind, Spline, Transform
from napari_medseq.registration.trust import TrustLimits, assess_quality
from napari_medseq.sequence import ImageSequence, check_images
from napari_medseq.settings import checked

if TYPE_CHECKING:
    from napari_medseq.models import Model

Backend = Literal["simpleitk", "elastix", "learned"]
#: normalised mutual information above which two images count as copies of each other; it is 2 if each intensity of one maps
#: to one of the other (Studholme et al. 1999, doi:10.1016/S0031-3203(98)00091-0)
_COPY = 1.999


def register(
    moving: ImageSequence,
    fixed: ImageSequence,
    *,
    kind: Kind = "rigid",
    mask: ImageSequence | None = None,
    backend: Backend = "simpleitk",
    model: Model | str | PathLike[str] | None = None,
    limits: TrustLimits | Mapping[str, float] | None = None,
    seed: int = 0,
    on_failure: Literal["raise", "warn"] = "raise",
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Transform:
    """Align `moving` to `fixed`.

    It maximises Mattes' mutual information (Mattes et al. 2003, doi:10.1109/TMI.2003.809072), so that contrasts and
    modalities may differ, by regular-step gradient descent over three resolutions. It starts from the images' own
    positions, from positions with their centres together, and from rotated positions, and keeps the best result. The
    same input gives the same result, bit for bit, on one machine. A copy of the fixed image keeps its position.

    Parameters
    ----------
    moving, fixed : ImageSequence
        Two volumes (z, y, x) or two 2D images (y, x); no axis ``t`` (take a ``frame``).
    kind : {"rigid", "translation", "affine", "deformable"}
    mask : ImageSequence, optional
        The part of the fixed image that counts (> 0), on any grid.
    backend : {"simpleitk", "elastix", "learned"}
        The method: our own descent, which needs no further package and supports ``mask``, all kinds and 2D; elastix
        with its default parameter maps, for volumes (``pip install napari-medseq[elastix]``); or, for
        ``kind="deformable"`` of volumes, a recurrent network after our own affine search. Preparation, starting
        positions and the checks of the result are the same.
    model : Model, str or path, optional
        A trained registration network for ``backend="learned"`` (none ships). Without it the network is untrained, and
        takes local Gauss–Newton steps.
    limits : TrustLimits or mapping, optional
        The limits that a trusted result must keep; default `TrustLimits()`.
    seed : int
        Seed of the random choice of voxels.
    on_failure : {"raise", "warn"}
        What to do if the result cannot be trusted: raise, or warn and return it with ``quality.trustworthy`` False.

    Returns
    -------
    Transform
        ``.matrix`` maps points of the fixed image to points of the moving one; ``.apply(moving)`` resamples onto the
        fixed grid.

    Raises
    ------
    SettingsError
        If an option has an unknown value.
    RegistrationError
        If the images cannot be compared, or the result fails a check; the message holds the measures.

    Examples
    --------
    >>> import numpy as np
    >>> import napari_medseq as ms
    >>> from napari_medseq.synthetic import make_study
    >>> fixed = ms.preprocess(make_study().visits[0].images[0], {"kind": "resample", "spacing": 6.0})
    >>> moved = fixed.affine.copy()
    >>> moved[:3, 3] += (8.0, -5.0, 0.0)  # the same head, displaced
    >>> found = ms.register(fixed.replace(affine=moved), fixed)
    >>> bool(np.abs(found.matrix[:3, 3] - (8.0, -5.0, 0.0)).max() < 0.5), found.quality.trustworthy
    (True, True)
    """
    check_images(moving=moving, fixed=fixed, mask=mask)
    _check_options(kind, backend, on_failure, model)
    keep = checked(TrustLimits, limits, where="limits")
    began = time.perf_counter()
    pair = prepared(moving, fixed, mask)
    linear: Linear = "affine" if kind == "deformable" else kind
    total = ROUNDS * 2 if kind == "deformable" else ROUNDS
    watch = Watch(total, f"Registering {moving.name} to {fixed.name}", progress, cancelled)
    compare = pair.sampler(1, seed=seed)
    matrix, error = _searched(pair, compare, linear, backend, seed, watch)
    spline, bending = None, None
    if kind == "deformable":
        spline, bending = _bent(pair, compare, matrix, backend, model, seed, watch)
    quality = assess_quality(pair, compare, matrix, error_mm=error, kind=kind, bending=bending, limits=keep)
    quality = quality.model_copy(update={"seconds": round(time.perf_counter() - began, 3)})
    if not quality.trustworthy:
        text = (
            f"{moving.name} could not be aligned to {fixed.name} well enough to be trusted: {'; '.join(quality.doubts)}. "
            "Check that both show the same part of the same patient; a mask or another kind may help."
        )
        if on_failure == "raise":
            raise RegistrationError(text)
        warn(text)
    watch.check()
    if progress is not None:
        progress(total, total, watch.message)
    return Transform(
        kind,
        pair.world(matrix),
        fixed.affine,
        fixed.grid,
        spline,
        quality,
        fixed_name=fixed.name,
        moving_name=moving.name,
    )


def _check_options(kind: Kind, backend: Backend, on_failure: str, model: Model | str | PathLike[str] | None) -> None:
    if kind not in get_args(Kind):
        raise SettingsError(f"kind {kind!r} is unknown; use one of {', '.join(get_args(Kind))}.")
    if on_failure not in ("raise", "warn"):
        raise SettingsError(f"on_failure {on_failure!r} must be 'raise' or 'warn'.")
    if backend not in get_args(Backend):
        raise SettingsError(f"backend {backend!r} is unknown; use one of {', '.join(get_args(Backend))}.")
    if backend == "learned" and kind != "deformable":
        raise SettingsError(f'backend="learned" is for kind="deformable", not for kind {kind!r}.')
    if model is not None and backend != "learned":
        raise SettingsError(f'backend {backend!r} takes no model; it is for backend="learned".')


def _searched(
    pair: Pair, compare: Sampler, kind: Linear, backend: Backend, seed: int, watch: Watch
) -> tuple[Affine, float]:
    """The linear part: a matrix of fixed points to moving ones, and the disagreement (mm) of several searches."""
    if backend == "elastix":
        from napari_medseq.registration import elastix

        return elastix.search(pair, kind, seed=seed, watch=watch)
    as_it_lies = pair.framed(np.eye(4))
    if compare.at(as_it_lies).nmi > _COPY:  # for a copy, interpolation could only make the result worse
        return as_it_lies, 0.0
    return search(pair, kind, seed=seed, watch=watch)


def _bent(
    pair: Pair,
    compare: Sampler,
    matrix: Affine,
    backend: Backend,
    model: Model | str | PathLike[str] | None,
    seed: int,
    watch: Watch,
) -> tuple[Spline | None, Bending]:
    """The deformation on top of a linear part, by the chosen backend."""
    if backend == "learned":
        from napari_medseq.registration import learned

        return learned.bend(pair, compare, matrix, watch=watch, model=model)
    if backend == "elastix":
        from napari_medseq.registration import elastix

        return elastix.bend(pair, compare, matrix, seed=seed, watch=watch)
    from napari_medseq.registration import deformable

    return deformable.bend(pair, compare, matrix, seed=seed, watch=watch)
