from .alignment import Alignment as Alignment
from .alignment import VisitAlignment as VisitAlignment
from .alignment import aligned as aligned
from .alignment import visits as visits
from .motion import Motion as Motion
from .motion import frames as frames
from .registration import register as register
from .transform import Spline as Spline
from .transform import Transform as Transform
from .transform_file import Quality as Quality
from .trust import TrustLimits as TrustLimits

__all__ = [
    "Alignment",
    "Motion",
    "Quality",
    "Spline",
    "Transform",
    "TrustLimits",
    "VisitAlignment",
    "aligned",
    "frames",
    "register",
    "visits",
]
