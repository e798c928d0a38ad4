"""Response criteria as small rule sets: each reads the lesion table and says, visit by visit, a category and why.

Every rule set computes what its published criteria say of sizes; clinical state, treatment and a reader's judgement count only where they
are given as options, and the reasons say where they are not. The result is a research measure, never a clinical verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari_medseq.errors import SettingsError
from napari_medseq.progression.response.common import Assessment, Verdict
from napari_medseq.progression.response.fleischner import fleischner2017
from napari_medseq.progression.response.lung_rads import lung_rads
from napari_medseq.progression.response.ms_lesions import ms_new_enlarged
from napari_medseq.progression.response.nodule import nodule_growth
from napari_medseq.progression.response.rano import rano2_bidimensional, rano2_volumetric, rano2010
from napari_medseq.progression.response.recist import recist11
from napari_medseq.progression.response.volumetric import volumetric

if TYPE_CHECKING:
    from napari_medseq.progression.progression import Progression

#: name → rule set
RULES: dict[str, Callable[..., Assessment]] = {
    "recist-1.1": recist11,
    "rano-2010": rano2010,
    "rano-2.0": rano2_bidimensional,
    "rano-2.0-volumetric": rano2_volumetric,
    "nodule-growth": nodule_growth,
    "lung-rads-2022": lung_rads,
    "fleischner-2017": fleischner2017,
    "ms-new-enlarged": ms_new_enlarged,
    "volumetric": volumetric,
}


def assess(progression: Progression, rule: str, **options: Any) -> Assessment:
    """Apply a rule set to a progression.

    Parameters
    ----------
    progression : Progression
    rule : str
        A name out of `RULES`.
    **options
        Of that rule set.

    Returns
    -------
    Assessment

    Raises
    ------
    SettingsError
        If there is no such rule set or option.
    """
    if rule not in RULES:
        raise SettingsError(f"There is no response rule {rule!r}; choose one of: {', '.join(RULES)}.")
    try:
        return RULES[rule](progression, **options)
    except TypeError as error:
        raise SettingsError(f"Response rule {rule!r}: {error}.") from error


__all__ = ["RULES", "Assessment", "Verdict", "assess"]
