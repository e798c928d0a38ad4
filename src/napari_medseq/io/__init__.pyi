from .detection import detect as detect
from .reading import info as info
from .reading import read as read
from .study import read_study as read_study
from .writing import write as write

__all__ = [
    "detect",
    "info",
    "read",
    "read_study",
    "write",
]
