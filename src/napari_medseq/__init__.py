"""napari-medseq: open, segment and follow medical image sequences, lesion by lesion. Research software, not a medical device.

The public API (DESIGN: one name per verb) is loaded on first use (PEP 562), so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medseq import lazy

#: public name → the module that defines it
_PUBLIC = {
    "ImageSequence": "sequence",
    "Study": "sequence",
    "Visit": "sequence",
    "MedseqError": "errors",
    "MedseqWarning": "errors",
    "info": "io",
    "read": "io",
    "read_study": "io",
    "write": "io",
    "preprocess": "preprocess",
    "register": "register",
    "Transform": "register",
    "list_models": "models",
    "load_model": "models",
    "Model": "models",
    "ModelInfo": "models",
    "segment": "engine",
    "Segmentation": "engine",
    "classify": "engine",
    "Classification": "engine",
    "explain": "engine",
    "locate": "engine",
    "Locations": "engine",
    "export": "engine",
    "train": "engine",
    "teach": "engine",
    "TrainingResult": "engine",
    "compress": "engine",
    "evaluate": "evaluate",
    "Evaluation": "evaluate",
    "track": "progression",
    "Progression": "progression",
    "TrackSettings": "progression",
    "run": "pipeline",
}

__all__ = [*_PUBLIC, "__version__"]  # noqa: PLE0604
__version__ = "0.1.0"

if TYPE_CHECKING:
    from napari_medseq.errors import MedseqError as MedseqError
    from napari_medseq.errors import MedseqWarning as MedseqWarning
    from napari_medseq.sequence import ImageSequence as ImageSequence
    from napari_medseq.sequence import Study as Study
    from napari_medseq.sequence import Visit as Visit


__getattr__ = lazy.attributes(__name__, _PUBLIC)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_PUBLIC))
