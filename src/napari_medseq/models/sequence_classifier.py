"""The CNN-RNN classifier: a per-step encoder, a sequence model and additive attention give answers per step and per
exam.

A CNN encodes each step to a vector and a coarse map of evidence; a sequence model (a bidirectional GRU or LSTM, a
transformer, or dense 1-D convolution) reads the vectors in order; one head answers per step, and an attention-
weighted mean, with values from a table where there are any, answers for the exam. ``rnn="none"`` leaves the sequence
model out: the same encoder, step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_medseq.errors import ModelError
from napari_medseq.models import targets
from napari_medseq.models.blocks import convolution
from napari_medseq.models.encoders import BlockEncoder, build_encoder
from napari_medseq.models.heads import DenseHead, Head, TransformerHead, read_recurrent
from napari_medseq.models.modalities import Modalities, hide, without_nan
from napari_medseq.models.plain import Definition
from napari_medseq.models.registry import register
from napari_medseq.models.sequence_network import SequenceNetwork
from napari_medseq.models.steps import gaps_before, present_first, take
from napari_medseq.models.tabular import TabularBranch


class SequenceLogits(NamedTuple):
    """Logits of a sequence.

    `steps` (batch, step, class) and `exam` (batch, class); `attention` (batch, step) sums to one; `evidence`
    (batch, step, class, y, x) says where in each step, at the encoder's coarse resolution.
    """

    steps: Tensor
    exam: Tensor
    attention: Tensor
    evidence: Tensor


@register("SequenceClassifier")
class SequenceClassifier(SequenceNetwork):
    """CNN-RNN classifier of a sequence.

    The encoder's last features give a coarse map of evidence per class; each step's vector is made of the features'
    mean, of their mean where the evidence is, and of the strongest evidence. Where outlines are known in training the
    map is taught directly, which a small lesion in a large slice needs. The encoder is the segmentation network's, block by
    block, so that its weights can start from there.

    The keywords are flat, since they are the network's definition as a bundle writes it (``network_def``), as those of MONAI's
    networks are.

    Parameters
    ----------
    in_channels, classes : int
        Image channels per step before neighbours; outputs.
    widths : sequence of int
        Channels of the encoder's levels; each but the last halves y and x.
    neighbours : int
        Steps on either side that enter as channels.
    rnn : {"gru", "lstm", "transformer", "dense", "none"}
        What reads the steps in order.
    hidden : int
        Half the length of a step's vector; the state size per direction.
    dropout : float
    encoder : str or mapping, optional
        Another encoder than the blocks, by name; see `encoders.build_encoder`. `widths` is then of no use.
    dimensions : {2, 3}
        Whether a step is an image or a volume.
    target : {"multilabel", "exclusive", "ordinal"}
        What the classes are to each other; see `targets`.
    deltas : bool
        Add to each step what changed since the step before.
    gap_unit : float, optional
        Lets the gaps between steps in (as ``log(1 + gap / gap_unit)``), and is the unit of positions and distances.
    distance : {"none", "last", "focus"}
        A learned term of the attention for the distance from the last step (how recent), or from where attention by content
        alone is centred (Luong et al. 2015, arXiv:1508.04025, sec. 3.2, with the form learned).
    tabular : int
        Values per exam from a table, fused with the images by a `TabularBranch`.
    modalities : int
        Number of equal groups into which `in_channels` falls; any group may be missing (NaN throughout).
    fusion : {"channels", "attention"}
        Modalities enter one encoder as channels, a missing one as zeros; or each its own encoder, weighed by attention.
    modality_dropout : float
        Share of modalities hidden at random in training, never all of an exam.
    """

    extra_inputs = ("times", "present", "tabular")

    def __init__(
        self,
        *,
        in_channels: int = 1,
        classes: int = 1,
        widths: Sequence[int] = (16, 32, 64, 96),
        neighbours: int = 1,
        rnn: Head | Literal["none"] = "gru",
        hidden: int = 48,
        dropout: float = 0.2,
        encoder: str | Definition | None = None,
        dimensions: Literal[2, 3] = 2,
        target: targets.Target = "multilabel",
        deltas: bool = False,
        gap_unit: float | None = None,
        distance: Literal["none", "last", "focus"] = "none",
        tabular: int = 0,
        modalities: int = 1,
        fusion: Literal["channels", "attention"] = "channels",
        modality_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if in_channels % modalities or fusion not in ("channels", "attention"):
            raise ModelError(f"{in_channels} channels do not fall into {modalities} modalities fused by {fusion!r}.")
        if distance not in ("none", "last", "focus") or (gap_unit is not None and not gap_unit > 0):
            raise ModelError(f"distance {distance!r} or gap_unit {gap_unit} cannot be used.")
        self.neighbours, self.rnn, self.classes, self.target = neighbours, rnn, classes, target
        self.volumes, self.table_values = dimensions == 3, tabular
        self.input_channels = in_channels * (2 * neighbours + 1)
        self.gap_unit, self.measured = gap_unit, distance
        self.modalities, self.modality_dropout = modalities, modality_dropout
        width = 2 * hidden
        several = modalities > 1 and fusion == "attention"

        def see() -> tuple[nn.Module, nn.Module, nn.Module]:
            channels = (in_channels // modalities if several else in_channels) * (2 * neighbours + 1)
            return _look(encoder, channels, widths, dropout, dimensions, classes, width)

        # the order in which layers are made decides their first weights
        self.encoder, self.evidence, self.embed = see()
        self.stride = cast(int, self.encoder.stride)
        self.dropout = nn.Dropout(dropout)
        # named "gru" whichever it is, so that the names of the weights stay the same
        self.gru = _sequence_model(rnn, width, hidden, dropout)
        # additive attention, Bahdanau et al. 2015, arXiv:1409.0473, eq. in A.1.2
        self.attend = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 1))
        self.step_head = targets.head(width, classes, target)
        self.exam_head = targets.head(width, classes, target)
        # what not every classifier has comes last, so that the first weights of the others do not depend on it
        self.delta = nn.Linear(width, width, bias=False) if deltas else None
        self.gap = _from_nothing(width) if gap_unit is not None else None
        self.distance = _from_nothing(hidden) if distance != "none" else None
        self.tabular = TabularBranch(tabular, width) if tabular else None
        self.fuse = Modalities([see() for _ in range(modalities - 1)], width, hidden) if several else None

    def standardise(self, table: Tensor) -> None:
        """Take centre and spread of the table's values from training exams; see `TabularBranch.standardise`."""
        if self.tabular is not None:
            self.tabular.standardise(table)

    # -- per step: (n, channel, y, x) ------------------------------------------------------------------------------
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (n, 2 · hidden) and evidence (n, class, y, x) of independent steps (n, channel, y, x)."""
        return self.describe(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """The encoder's last features (n, feature, y, x) of independent steps; those of several modalities one after another."""
        if self.fuse is not None:
            return self.fuse.features(self.encoder, x, 2 * self.neighbours + 1)
        embeddings: Tensor = self.encoder(without_nan(x))
        return embeddings

    def describe(self, f: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings and evidence, as `encode`, from the encoder's last features."""
        if self.fuse is not None:
            return self.fuse.describe(f, self._describe, self.evidence, self.embed)
        return self._describe(f, self.evidence, self.embed)

    def _describe(self, f: Tensor, look: nn.Module, embed: nn.Module) -> tuple[Tensor, Tensor]:
        evidence: Tensor = look(f)
        weights = evidence.flatten(2).softmax(2)
        attended = torch.einsum("nkp,ncp->nkc", weights, f.flatten(2)).flatten(1)
        space = tuple(range(2, f.ndim))
        pooled = torch.cat([f.mean(space), attended, evidence.amax(space)], 1)
        return functional.silu(embed(self.dropout(pooled))), evidence

    # -- whole exams -----------------------------------------------------------------------------------------------
    def read(
        self,
        embeddings: Tensor,
        order: Tensor | None = None,
        times: Tensor | None = None,
        present: Tensor | None = None,
        tabular: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits per step (batch, step, class) and per exam (batch, class), and attention (batch, step).

        Parameters
        ----------
        embeddings : Tensor, shape (batch, step, 2 · hidden)
            Embeddings of whole exams.
        order : Tensor, shape (steps,), optional
            Permutes the steps for the sequence model alone: the ablation that shuffles the sequence.
        times : Tensor, shape (batch, step), optional
            When or where each step is, ascending; needs `gap_unit`.
        present : Tensor of bool, shape (batch, step), optional
            False where a step is missing: the others are read as if it did not exist, its attention is zero, and its own
            logits mean nothing.
        tabular : Tensor, shape (batch, value), optional
            NaN where a value is missing; None: all are.

        Raises
        ------
        ModelError
            If times or a table are given to a network that uses none, or do not fit.
        """
        if times is not None and self.gap_unit is None:
            raise ModelError("This network does not use times; build it with gap_unit=, or leave the times out.")
        if tabular is not None and self.tabular is None:
            raise ModelError("This network takes no values from a table; build it with tabular=, or leave them out.")
        h, back = embeddings, None
        if present is not None:
            front, back = present_first(present)
            h, present = take(h, front), take(present, front)
            times = None if times is None else take(times, front)
        gaps = None if times is None else gaps_before(times, present)
        position = self._positions(h, gaps)
        h = self._mixed(self._with_change(h, gaps), position, present, order)
        attention = self._attention(h, position, present)
        exam = (attention[..., None] * h).sum(1)
        exam = exam if self.tabular is None else self.tabular(exam, tabular)
        exam = self.exam_head(self.dropout(exam))
        if back is not None:
            h, attention = take(h, back), take(attention, back)
        return self.step_head(self.dropout(h)), exam, attention

    def _positions(self, h: Tensor, gaps: Tensor | None) -> Tensor:
        """Position of each step (batch, step): in gap units from the first if times are known, else its number."""
        if gaps is None or self.gap_unit is None:
            return torch.arange(h.shape[1], device=h.device, dtype=h.dtype).expand(h.shape[:2])
        return (gaps.cumsum(1) / self.gap_unit).to(h.dtype)

    def _with_change(self, h: Tensor, gaps: Tensor | None) -> Tensor:
        """Embeddings with what changed since the step before, and with how long that was ago."""
        out = h
        if self.delta is not None:
            out = out + self.delta(torch.cat([torch.zeros_like(h[:, :1]), h.diff(dim=1)], 1))
        if self.gap is not None and gaps is not None and self.gap_unit is not None:
            out = out + self.gap(torch.log1p(gaps / self.gap_unit)[..., None].to(h.dtype))
        return out

    def _mixed(self, h: Tensor, position: Tensor, present: Tensor | None, order: Tensor | None) -> Tensor:
        if self.gru is None:
            return h
        x, back = (h, None) if order is None else (h[:, order], torch.argsort(order))
        if order is not None and present is not None:  # those that are missing stand at the end again
            front, whence = present_first(present[:, order])
            x, present, back = take(x, front), take(present[:, order], front), whence[:, back]
        layer = self.gru
        seen = read_recurrent(layer, x, present) if isinstance(layer, nn.RNNBase) else layer(x, position, present)
        if back is None:
            return h + seen
        return h + (take(seen, back) if back.ndim == 2 else seen[:, back])

    def _attention(self, h: Tensor, position: Tensor, present: Tensor | None) -> Tensor:
        """Weights (batch, step) of the steps in the exam's answer; they sum to one."""
        content = self.attend[0](h)

        def weigh(inner: Tensor) -> Tensor:
            score = self.attend[2](self.attend[1](inner)).squeeze(-1)
            if present is not None:
                score = score.masked_fill(~present, torch.finfo(score.dtype).min)
            return cast(Tensor, score.softmax(1))

        if self.distance is None:
            return weigh(content)
        if self.measured == "last":
            present_position = (
                position if present is None else torch.where(present, position, torch.zeros_like(position))
            )
            middle = present_position.amax(1, keepdim=True)
        else:
            middle = (weigh(content) * position).sum(1, keepdim=True)
        return weigh(content + self.distance(torch.log1p((position - middle).abs())[..., None]))

    def forward(
        self,
        x: Tensor,
        order: Tensor | None = None,
        times: Tensor | None = None,
        present: Tensor | None = None,
        tabular: Tensor | None = None,
    ) -> SequenceLogits:
        """Answers for whole exams (batch, step, channel, y, x), or (batch, step, channel, z, y, x); the rest as in `read`.

        A modality that is missing is NaN throughout, and so is a missing step where `present` does not say it.
        """
        batch, steps = x.shape[:2]
        if any(n < self.stride for n in x.shape[3:]):
            raise ModelError(
                f"Steps of size {tuple(x.shape[3:])} are too small; this network needs {self.stride} or more."
            )
        if present is None and not (x.is_meta or torch.compiler.is_compiling()):
            missing = x.isnan().flatten(2).all(2)
            present = ~missing if bool(missing.any()) else None
        if self.training and self.modality_dropout > 0:
            x = hide(x, self.modalities, 2 * self.neighbours + 1, self.modality_dropout)
        embeddings, evidence = self.encode(x.flatten(0, 1))
        step, exam, attention = self.read(embeddings.unflatten(0, (batch, steps)), order, times, present, tabular)
        return SequenceLogits(step, exam, attention, evidence.unflatten(0, (batch, steps)))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities (…, class) from logits (…, class), as the classes are to each other."""
        return targets.probabilities(logits, self.target)

    def loss(self, logits: Tensor, truth: Tensor) -> Tensor:
        """`targets.loss` of logits (…, class) against answers (…, class), NaN where unknown."""
        return targets.loss(logits, truth, self.target)


def _look(
    encoder: str | Definition | None,
    channels: int,
    widths: Sequence[int],
    dropout: float,
    dimensions: Literal[2, 3],
    classes: int,
    width: int,
) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Encoder, evidence and embedding of one modality, or of all as channels."""
    one = (
        BlockEncoder(channels, widths, dropout, dimensions)
        if encoder is None
        else build_encoder(encoder, channels, dropout, dimensions)
    )
    evidence = convolution(dimensions)(one.width, classes, 1)
    return one, evidence, nn.Linear((1 + classes) * one.width + classes, width)


def _sequence_model(rnn: Head | Literal["none"], width: int, hidden: int, dropout: float) -> nn.Module | None:
    """The module that reads the vectors of the steps in order, from `width` numbers to as many; None: there is none."""
    makers: dict[str, Callable[[], nn.Module | None]] = {
        "gru": lambda: nn.GRU(width, hidden, batch_first=True, bidirectional=True),
        "lstm": lambda: nn.LSTM(width, hidden, batch_first=True, bidirectional=True),
        "transformer": lambda: TransformerHead(width, dropout=dropout),
        "dense": lambda: DenseHead(width, dropout=dropout),
        "none": lambda: None,
    }
    return makers[rnn]()


def _from_nothing(features: int) -> nn.Linear:
    """One weight per feature for one number, zero at first, so that an untrained network ignores the number."""
    linear = nn.Linear(1, features, bias=False)
    nn.init.zeros_(linear.weight)
    return linear
