from .growing import grow as grow
from .interpolation import interpolate_slices as interpolate_slices
from .islands import keep_at as keep_at
from .islands import keep_largest as keep_largest
from .islands import number_islands as number_islands
from .islands import remove_small as remove_small
from .islands import split as split
from .labels import Labelled as Labelled
from .labels import combine as combine
from .labels import copy_slice as copy_slice
from .labels import put as put
from .outlining import Hints as Hints
from .outlining import outline as outline
from .overlap import Overlap as Overlap
from .shapes import closing as closing
from .shapes import fill_holes as fill_holes
from .shapes import hollow as hollow
from .shapes import margin as margin
from .shapes import opening as opening
from .shapes import smooth as smooth

__all__ = [
    "Hints",
    "Labelled",
    "Overlap",
    "closing",
    "combine",
    "copy_slice",
    "fill_holes",
    "grow",
    "hollow",
    "interpolate_slices",
    "keep_at",
    "keep_largest",
    "margin",
    "number_islands",
    "opening",
    "outline",
    "put",
    "remove_small",
    "smooth",
    "split",
]
