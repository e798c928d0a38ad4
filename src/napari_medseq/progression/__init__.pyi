from .progression import Progression as Progression
from .settings import TrackSettings as TrackSettings
from .tracking import track as track

__all__ = [
    "Progression",
    "TrackSettings",
    "track",
]
