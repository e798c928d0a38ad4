"""The settings of tracking: one frozen, validated model that also builds the form in the viewer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from napari_medseq.settings import Settings, checked

_NOISE = "the noise bound of that very change (95 %, from voxel size, segmentation and registration error)"


class TrackSettings(Settings):
    """How lesions are distinguished, matched between visits, and classified as growing or shrinking.

    Raises
    ------
    SettingsError
        If a value is out of range or a name is unknown.
    """

    connectivity: Literal[6, 18, 26] = Field(
        26, title="neighbours", description="Which neighbours of a voxel belong to the same lesion."
    )
    instances: Literal["components", "values"] = Field(
        "components",
        title="a lesion is",
        description="components: each connected component is a lesion. values: each label value is a lesion, so that lesions that "
        "touch, separated by hand, stay apart.",
    )
    classes: Literal["auto", "each", "union"] = Field(
        "auto",
        description="With components: whether each label value is a class that is followed by itself (each), or all values together "
        "are lesions (union). auto: each, where label_names names two values or more; union otherwise.",
    )
    min_volume_ml: float = Field(
        0.014,
        ge=0,
        title="smallest volume",
        description="Smaller lesions are kept and matched but counted as unmeasured. Default: a sphere of 3 mm, the smallest focus "
        "that counts as a lesion in MS (Thompson et al., Lancet Neurol 2018, 17:162).",
        json_schema_extra={"unit": "ml"},
    )
    growth_percent: float | None = Field(
        None,
        ge=0,
        title="growing from",
        description="Increase of volume, in percent of the earlier one, from which a lesion is growing.",
        json_schema_extra={"unit": "%", "none": _NOISE},
    )
    shrink_percent: float | None = Field(
        None,
        ge=0,
        le=100,
        title="shrinking from",
        description="Decrease of volume, in percent of the earlier one, from which a lesion is shrinking.",
        json_schema_extra={"unit": "%", "none": _NOISE},
    )
    min_overlap: float = Field(
        0.1,
        gt=0,
        lt=1,
        title="least overlap",
        description="Share of either lesion that an overlap must hold to link two lesions.",
    )
    max_dilation: float = Field(
        3.0,
        ge=0,
        le=20,
        title="search around",
        description="How far lesions are dilated in search of an overlap, in voxels of the coarser grid (or in units of "
        "registration_error_mm where that is larger).",
        json_schema_extra={"unit": "voxels"},
    )
    bridge_visits: int = Field(
        3,
        ge=0,
        title="may be missed",
        description="How many visits a lesion may be missed and still be recognised when it comes back.",
        json_schema_extra={"unit": "visits"},
    )
    registration_error_mm: float | None = Field(
        None,
        ge=0,
        title="misalignment",
        description="Expected misalignment of the visits.",
        json_schema_extra={"unit": "mm", "none": "one voxel of the coarser grid", "advanced": True},
    )
    segmentation_error_voxels: float = Field(
        0.05,
        ge=0,
        le=5,
        title="outline error",
        description="Expected systematic shift of a lesion's outline (standard deviation); part of the noise bound.",
        json_schema_extra={"unit": "voxels", "advanced": True},
    )
    segmentation_error_percent: float = Field(
        3.0,
        ge=0,
        le=100,
        title="volume error",
        description="Expected spread of a volume (standard deviation) when the same lesion is outlined again; part of the noise bound.",
        json_schema_extra={"unit": "%", "advanced": True},
    )

    @classmethod
    def of(cls, settings: TrackSettings | Mapping[str, object] | None) -> TrackSettings:
        """Settings from themselves, a mapping, or None (defaults).

        Raises
        ------
        SettingsError
            If a name or a value cannot be used.
        """
        return checked(cls, settings)
