"""Reading files and folders into `ImageSequence` and `Study`, and writing them back without loss.

`formats` and `dicom` hold a module per format; `reading` chooses among them by magic bytes, `study` sorts a patient's visits,
`writing` writes. Format libraries (nibabel, pydicom, SimpleITK) are loaded only when a file of theirs is opened.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
