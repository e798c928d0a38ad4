"""napari-medseq: open, segment and follow medical image sequences, lesion by lesion. Research software, not a medical device.

The public API is listed once, in `__init__.pyi`, which type checkers and editors read; each name is loaded on first use (SPEC 1),
so that importing the package costs nothing.
"""

from __future__ import annotations

import lazy_loader

_of_stub, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from napari_medseq.version import (
            __version__,  # reads the installed metadata, which takes longer than all else here
        )

        return __version__
    member: object = _of_stub(name)
    return member
