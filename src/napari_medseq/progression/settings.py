"""The settings of tracking: one frozen, validated model that also builds the form in the viewer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from napari_medseq.settings import Settings, checked


class TrackSettings(Settings):
    """How lesions are told apart, matched between visits and called growing or shrinking.

    Attributes
    ----------
    connectivity : {6, 18, 26}
        Which neighbours of a voxel belong to the same lesion.
    instances : {"components", "values"}
        ``"components"``: each connected component is a lesion. ``"values"``: each label value is a lesion, so that
        lesions that touch, separated by hand, stay apart.
    classes : {"auto", "each", "union"}
        With components: whether each label value is a class that is followed by itself, or all values together are
        "lesion". ``"auto"``: each, where ``label_names`` names two values or more; union otherwise.
    min_volume_ml : float
        Smaller lesions are kept and matched but counted as unmeasured. Default: a sphere of 3 mm, the smallest focus
        that counts as a lesion in MS (Thompson et al., Lancet Neurol 2018, 17:162).
    growth_percent, shrink_percent : float or None
        Change of volume, in percent of the earlier one, from which a lesion is growing or shrinking.
        None: the noise bound of that very change (95 %, from voxel size, segmentation and registration error).
    min_overlap : float
        Share of either lesion that an overlap must hold to link two lesions.
    max_dilation : float
        How far lesions are dilated in search of an overlap, in voxels of the coarser grid (or in units of
        `registration_error_mm` where that is larger).
    bridge_visits : int
        How many visits a lesion may be missed and still be recognised when it comes back.
    registration_error_mm : float or None
        Expected misalignment of the visits; None: one voxel of the coarser grid.
    segmentation_error_voxels : float
        Expected systematic shift of a lesion's outline (standard deviation), in voxels; part of the noise bound.
    segmentation_error_percent : float
        Expected spread of a volume (standard deviation) when the same lesion is outlined again, in percent; part of the bound.

    Raises
    ------
    SettingsError
        If a value is out of range or a name is unknown.
    """

    connectivity: Literal[6, 18, 26] = 26
    instances: Literal["components", "values"] = "components"
    classes: Literal["auto", "each", "union"] = "auto"
    min_volume_ml: float = Field(default=0.014, ge=0)
    growth_percent: float | None = Field(default=None, ge=0)
    shrink_percent: float | None = Field(default=None, ge=0, le=100)
    min_overlap: float = Field(default=0.1, gt=0, lt=1)
    max_dilation: float = Field(default=3.0, ge=0, le=20)
    bridge_visits: int = Field(default=3, ge=0)
    registration_error_mm: float | None = Field(default=None, ge=0)
    segmentation_error_voxels: float = Field(default=0.05, ge=0, le=5)
    segmentation_error_percent: float = Field(default=3.0, ge=0, le=100)

    @classmethod
    def of(cls, settings: TrackSettings | Mapping[str, object] | None) -> TrackSettings:
        """Settings from themselves, a mapping, or None (defaults).

        Raises
        ------
        SettingsError
            If a name or a value cannot be used.
        """
        return checked(cls, settings)
