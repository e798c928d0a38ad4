"""The viewer's public functions: everything that a widget's button does, for scripts. They need no Qt; a `ViewerModel`
is enough.

The viewer, a script and the command give identical labels, because these functions, `ms.run` and the command call the same
verbs. napari is imported inside functions only.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
