"""A network output that holds NaN or infinity is an error, and never becomes an empty mask or a meaningless
probability."""

from __future__ import annotations

import math

from torch import Tensor

from napari_medseq.errors import ModelError
from napari_medseq.models import Model


def check_finite(answer: Tensor, model: Model, where: str) -> None:
    """Raise if the output of a network holds NaN or an infinity.

    Parameters
    ----------
    answer : Tensor
        Probabilities, or anything that sums to less than the largest float32.
    model : Model
    where : str
        The step and the image, for the message.

    Raises
    ------
    ModelError
        Saying what to do.
    """
    if not math.isfinite(float(answer.sum())):
        raise ModelError(
            f"{model.info.name} answers with values that are not numbers at {where}, so there is no result. Its weights or its "
            "precision do not suit the image: look at the image's values, try device='cpu', or use another model."
        )
