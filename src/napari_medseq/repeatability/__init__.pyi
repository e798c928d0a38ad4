from .retesting import retest as retest
from .settings import RetestSettings as RetestSettings

__all__ = [
    "RetestSettings",
    "retest",
]
