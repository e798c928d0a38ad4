from .progression import Progression as Progression
from .repeatability import Repeatability as Repeatability
from .settings import TrackSettings as TrackSettings
from .tracking import track as track

__all__ = [
    "Progression",
    "Repeatability",
    "TrackSettings",
    "track",
]
