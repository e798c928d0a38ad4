"""The facts that distinguish the image of a frame from others of the series, and the frame's diffusion weighting.

Frames that differ in image type, echo, phase or magnitude, kernel, tube voltage, series number or detector belong to
different images. The diffusion weighting does not count: images of different b-values and directions are frames of one
sequence, as in other converters, and ``meta`` lists their weighting. Sources: DICOM PS3.3 C.8.3 (MR), C.8.2 (CT),
C.8.13.5.9 (MR diffusion); the makers' conformance statements for the private ones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_medseq.io.dicom.elements import Attributes
from napari_medseq.io.dicom.values import first_item, integer, number, numbers, private, private_value, text, texts

Vector = NDArray[np.float64]

#: GE's private image type (magnitude is the usual one and is not named).
_GE_TYPES = {1: "PHASE", 2: "REAL", 3: "IMAGINARY"}
#: GE stores the b-value with flags in the higher digits.
_GE_DIGITS = 100_000


class Kind(NamedTuple):
    """The facts that all frames of one image share."""

    image_type: tuple[str, ...] = ()
    echo: int = -1
    echo_time: float | None = None
    component: str = ""
    stack: str = ""
    recon: str = ""
    series_number: int = -1
    part: str = ""


def kind_of(ds: Attributes) -> Kind:
    """The kind of a file's frames by the file's own attributes."""
    echo = number(ds, "EchoTime")
    recon = ""
    if text(ds, "Modality") == "CT":
        voltage = number(ds, "KVP")
        recon = " ".join((*texts(ds, "ConvolutionKernel"), "" if voltage is None else f"{voltage:g}kV")).strip()
    return Kind(
        texts(ds, "ImageType"), integer(ds, "EchoNumbers", -1), None if echo is None else round(echo, 2),
        text(ds, "ComplexImageComponent") or _ge_type(ds), "", recon, integer(ds, "SeriesNumber", -1),
    )  # fmt: skip


def _ge_type(ds: Attributes) -> str:
    values = private(ds, "GE image type")
    return _GE_TYPES.get(int(values[0]), "") if len(values) == 1 else ""


def diffusion_of(ds: Attributes) -> tuple[float | None, Vector | None]:
    """b-value in s/mm² and unit gradient direction (LPS, patient) of a classic file; None if it states none.

    GE's directions are those of its gradient coils and are left out.
    """
    b_value, direction = number(ds, "DiffusionBValue"), numbers(ds, "DiffusionGradientOrientation", 3)
    for name in ("Siemens b-value", "Philips b-value", "UIH b-value", "GE b-value"):
        values = private(ds, name) if b_value is None else []
        if values and values[0] >= 0:
            b_value = values[0] % _GE_DIGITS if name.startswith("GE") else values[0]
    if b_value is None:
        return None, None
    for name in ("Siemens direction", "UIH direction"):
        values = private(ds, name) if direction is None else []
        direction = np.array(values) if len(values) == 3 else direction
    if direction is None:
        parts = [private(ds, f"Philips direction {axis}") for axis in ("RL", "AP", "FH")]
        direction = np.array(parts)[:, 0] if all(len(part) == 1 for part in parts) else None
    return b_value, _unit(direction)


def philips_order(ds: Attributes) -> dict[str, float]:
    """Keys of order of Philips' classic files, whose instance numbers may be in any order.

    ``diffusion`` is the order of acquisition, or else that of b-value and gradient; ``label`` is the order of label or
    control, phase and repetition (arterial spin labelling).
    """
    out = {}
    order, b, gradient = (
        private(ds, f"Philips {name}") for name in ("diffusion order", "b-value number", "gradient number")
    )
    if len(order) == 1:
        out["diffusion"] = order[0]
    elif len(b) == 1 == len(gradient):
        out["diffusion"] = b[0] * 10_000 + gradient[0]
    label = str(private_value(ds, "Philips label") or "").upper()
    if label in ("LABEL", "CONTROL"):
        phase = private(ds, "Philips phase") or [0.0]
        out["label"] = ((label == "LABEL") * 10_000 + phase[0]) * 100_000 + (
            number(ds, "TemporalPositionIdentifier") or 0.0
        )
    return out


def enhanced_diffusion(item: Attributes) -> tuple[float | None, Vector | None]:
    """The same as `diffusion_of`, from an MR Diffusion Sequence item."""
    gradient = first_item(item, "DiffusionGradientDirectionSequence")
    direction = None if gradient is None else numbers(gradient, "DiffusionGradientOrientation", 3)
    return number(item, "DiffusionBValue"), _unit(direction)


def _unit(direction: Vector | None) -> Vector | None:
    length = 0.0 if direction is None else float(np.linalg.norm(direction))
    return None if direction is None or not 1e-6 < length < 1e6 else direction / length
