"""The settings of a training loop: the windows that are drawn, the optimiser, when to validate and when to stop."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from napari_medseq.settings import Settings
from napari_medseq.training.loops.augment import AugmentSettings


class LoopSettings(Settings):
    """Settings of a training loop: its windows, its optimiser, its validation and its checkpoints."""

    iterations: int = Field(400, ge=1)
    minutes: float | None = Field(None, gt=0, description="time budget; the schedule then ends with it")
    clock: Literal["wall", "process"] = Field(
        "wall", description="what minutes counts: time that passes, or processor time"
    )
    batch: int = Field(2, ge=1, description="windows per iteration and process")
    accumulate: int = Field(1, ge=1, description="batches whose gradients are summed before the weights change")
    steps: int = Field(8, ge=1, description="steps per window")
    size: tuple[int, int] = Field((208, 176), description="rows and columns of a window")
    slices: int = Field(16, ge=1, description="slices of a window, for a network whose steps are volumes")
    rate: float = Field(2e-3, gt=0, description="peak learning rate")
    schedule: Literal["cosine", "polynomial", "constant"] = Field("cosine", description="how the rate falls")
    power: float = Field(0.9, gt=0, description="exponent of the polynomial schedule")
    warm_up: int = Field(20, ge=0, description="iterations until the peak")
    encoder_rate: float = Field(1.0, ge=0, description="factor on the encoder's learning rate; 0 freezes it")
    weight_decay: float = Field(1e-4, ge=0)
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    average: float = Field(0.99, ge=0, lt=1, description="decay of the exponential moving average of the weights")
    bfloat16: bool = Field(False, description="mixed precision; only where the processor has bf16 units")
    float16: bool = Field(False, description="mixed precision with loss scaling; GPUs only")
    lesion_share: float = Field(0.7, ge=0, le=1, description="share of windows that are centred on something labelled")
    natural_after: float = Field(
        1.0,
        ge=0,
        le=1,
        description="two-phase sampling (Havaei et al. 2017): after this share of the run windows come as they are",
    )
    transplant: float = Field(0.3, ge=0, le=1)
    augment: AugmentSettings = AugmentSettings()
    seed: int = 0
    validate_every: int = Field(
        100, ge=1, description="iterations between validations, where there are patients for it"
    )
    patience: int = Field(0, ge=0, description="validations without a gain after which training stops; 0: never")
    checkpoint_seconds: float = Field(60.0, gt=0)
    tensorboard: bool = Field(False, description="write the curve for TensorBoard too")
