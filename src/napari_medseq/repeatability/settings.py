"""The settings of a test-retest study of one scan: one frozen, validated model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from napari_medseq.progression import TrackSettings
from napari_medseq.settings import Settings


class RetestSettings(Settings):
    """How often the scan is measured again, how it is moved and noised, and which lesions are added.

    Attributes
    ----------
    repeats : int
        How often the scan is moved, resampled, noised and measured again.
    shift_mm : float
        Largest shift along each axis in mm, as if the patient were positioned again.
    turn_degrees : float
        Largest rotation about a random axis, in degrees.
    noise : float
        Standard deviation of the added noise, as a multiple of the scan's own; 1: the same amount.
    interpolation : {"bspline", "linear"}
        How the moved scan is resampled; linear smooths it.
    growths : tuple of float
        True growth of each added lesion, as a share of its volume; empty: none is added.
    own_growths : tuple of float
        True growth of the patient's largest lesion, each in a scan of its own, by stretching it in place; empty: it is
        not changed.
    implant_ml : float or None
        Volume of these lesions before they grow; None: the median of the patient's own.
    contrast : float or None
        Their brightness above their surroundings, in the image's units, for every channel; None: that of the patient's
        own lesions.
    seed : int
        Seed of every random choice; the same seed gives the same study.
    track : TrackSettings
        Settings by which lesions are distinguished and matched.

    Raises
    ------
    SettingsError
        If a value is out of range or a name is unknown.
    """

    repeats: int = Field(default=5, ge=1, le=100)
    shift_mm: float = Field(default=3.0, ge=0, le=50)
    turn_degrees: float = Field(default=3.0, ge=0, le=45)
    noise: float = Field(default=1.0, ge=0, le=10)
    interpolation: Literal["bspline", "linear"] = "bspline"
    growths: tuple[float, ...] = (0.0, 0.1, 0.2, 0.4, 0.8)
    own_growths: tuple[float, ...] = (0.1, 0.2, 0.4)
    implant_ml: float | None = Field(default=None, gt=0, le=500)
    contrast: float | None = None
    seed: int = Field(default=0, ge=0)
    track: TrackSettings = Field(default_factory=TrackSettings)
