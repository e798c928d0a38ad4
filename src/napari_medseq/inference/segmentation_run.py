"""The work of `segment`: each image, or a patient's visits, through one network or several, step by step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from napari_medseq.errors import MedseqError, warn
from napari_medseq.inference.inputs import visits
from napari_medseq.inference.inputs.frame import Framing, frame
from napari_medseq.inference.inputs.images import at_hand
from napari_medseq.inference.inputs.slice_steps import SliceSteps, rows_of_steps
from napari_medseq.inference.network_passes import averaged, known_times, probabilities, steps_of, varied
from napari_medseq.inference.options import SegmentOptions
from napari_medseq.inference.outputs.finite import check_finite
from napari_medseq.inference.outputs.prediction import PatchAccumulator, Segmentation, to_images, with_warnings
from napari_medseq.inference.resources import devices, memory, tuning
from napari_medseq.inference.settings import InferenceSettings, inference_settings
from napari_medseq.inference.sliding import WindowSettings, window_framing, window_probabilities
from napari_medseq.inference.upright import Upright, upright_exams
from napari_medseq.memory import warn_if_short
from napari_medseq.models import Model
from napari_medseq.models.stepwise import Stepwise
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.sequence import ImageSequence

#: probabilities that the answer comes from, and those that show how sure it is, where they are others
Passes = tuple[Iterator[Tensor], Iterator[Tensor] | None]


@dataclass(frozen=True, kw_only=True, eq=False)
class _SequencePass:
    """One sequence to run the network over, and the images that its labels belong to, by step; None: all steps belong
    to one image."""

    channels: list[ImageSequence]
    framing: Framing
    wanted: dict[int, int] | None = None

    @property
    def last(self) -> int:
        """Steps until all that are wanted are done."""
        return self.framing.steps if self.wanted is None else max(self.wanted) + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentationRun:
    """One call of `segment`: the models, how they are run, and who is watching.

    Attributes
    ----------
    models : tuple of Model
        More than one are averaged.
    settings : InferenceSettings
        Inference settings of the first model.
    window : WindowSettings or None
        Window settings of a plain network of a foreign bundle.
    options : SegmentOptions
    device : torch.device
    progress, cancelled : callable or None
    """

    models: tuple[Model, ...]
    settings: InferenceSettings
    window: WindowSettings | None
    options: SegmentOptions
    device: torch.device
    progress: Progress | None
    cancelled: Cancelled | None

    @property
    def networks(self) -> list[Stepwise]:
        """The networks that are walked step by step; none where the model is a plain one."""
        return [m.network for m in self.models if isinstance(m.network, Stepwise)]

    @property
    def stride(self) -> int:
        """The number of which rows and columns must be multiples, for all networks."""
        return math.lcm(*(n.stride for n in self.networks))

    def of_each(self, exam_list: Sequence[list[ImageSequence]]) -> list[Segmentation]:
        """Each exam by itself."""
        s, options = self.settings, self.options
        turns, passes = list[Upright](), []
        for given in exam_list:
            check(self.cancelled)
            turn, channels = Upright.of_channels(given, trimmed=s.trimmed, middle_mm=s.middle_mm)
            turns.append(turn)
            if not self.networks:
                passes.append(_SequencePass(channels=channels, framing=window_framing(channels)))
                continue
            if s.along == "t" and "z" in channels[0].axes:  # each slice is looked at several times, through all frames
                channels = [at_hand(c) for c in channels]
            region = turn.region(options.region)
            framing = frame(channels, along=s.along, pixel_mm=s.pixel_mm, stride=self.stride, region=region)
            passes.append(_SequencePass(channels=channels, framing=framing))
        results = []
        for turn, sequence_pass, (accumulator, notes) in zip(turns, passes, self._run_passes(passes), strict=True):
            steps = turn.steps(options.steps, sequence_pass.framing.axes[0])
            result = to_images(accumulator.prediction, sequence_pass.channels[0], self.models, s, steps)
            results.append(turn.answer(with_warnings(result, notes)).keeping(options.keep))
        return results

    def of_visits(self, patient: visits.Patient) -> list[Segmentation]:
        """The visits of one patient together, in the order in which they were given."""
        index, days, s, steps = patient.index, patient.days, self.settings, self.options.steps
        if None in days and any(n.gap_unit is not None for n in self.networks):
            text = f"Not every visit has a date: {self.models[0].info.name} reads them in the order given, without the days between."
            warn(text)
        wrong = sorted(set(steps or ()) - set(index))
        if wrong:
            raise MedseqError(f"The visits with an image are {list(index)}, not {wrong}.")
        turns, exams = upright_exams(patient.exams)
        passes = []
        for group in visits.stack_visits(exams, days, patient.to_common, self.cancelled):
            region = turns[group.visits[group.own[0]]].region(self.options.region)
            framing = group.framing(pixel_mm=s.pixel_mm, stride=self.stride, region=region)
            own = {at: group.visits[at] for at in group.own}
            passes.append(_SequencePass(channels=group.channels, framing=framing, wanted=own))
        results: dict[int, Segmentation] = {}
        for sequence_pass, (accumulator, notes) in zip(passes, self._run_passes(passes), strict=True):
            for at, visit in (sequence_pass.wanted or {}).items():
                only = None if steps is None else [0] if index[visit] in steps else []
                prediction = accumulator.prediction.only(at)
                result = to_images(prediction, exams[visit][0], self.models, s, only)
                results[visit] = turns[visit].answer(with_warnings(result, notes)).keeping(self.options.keep)
        return [results[k] for k in range(len(exams))]

    def _run_passes(self, passes: Sequence[_SequencePass]) -> Iterator[tuple[PatchAccumulator, list[str]]]:
        """The results of each pass, and the notes about the device."""
        counts = [p.last * len(self._sequences(p.framing)) for p in passes]
        for k, sequence_pass in enumerate(passes):

            def gathered(
                where: torch.device,
                together: int | None,
                sequence_pass: _SequencePass = sequence_pass,
                done: int = sum(counts[:k]),
            ) -> PatchAccumulator:
                return self._gathered(sequence_pass, where, together, done, sum(counts))

            yield devices.within_memory(gathered, self.device, self.options.chunk, sequence_pass.channels[0].name)

    def _sequences(self, framing: Framing) -> list[int | None]:
        """The positions that are sequences of their own; None is all of them as one."""
        return [None] if any(n.volumes for n in self.networks) else list(framing.positions)

    def _gathered(
        self, sequence_pass: _SequencePass, where: torch.device, together: int | None, done: int, total: int
    ) -> PatchAccumulator:
        framing, name = sequence_pass.framing, sequence_pass.channels[0].name
        prepared = [self._prepared(m, where, together) for m in self.models]
        if where.type == "cpu" and memory.worth_estimating(framing):
            needed = [
                memory.network_bytes(framing, m.network, self.settings, p) * len(self._rows(m, sequence_pass))
                for m, (_, p) in zip(self.models, prepared, strict=True)
            ]
            warn_if_short(sum(needed) + memory.answer_bytes(framing, self.settings, self.options.outputs), name)
        apart = self.settings.along in ("t", "visit")
        accumulator = PatchAccumulator(framing, self.settings, self.options.outputs, apart=apart)
        for position in self._sequences(framing):
            planes, others = self._passes(sequence_pass, where, prepared, position)
            for index, p in enumerate(planes):
                check(self.cancelled)
                sampled = p if others is None else next(others)
                for answer in (p,) if others is None else (p, sampled):
                    check_finite(answer, self.models[0], f"step {index + 1} of {name}")
                accumulator.add(index, position, p, sampled)
                done += 1
                if self.progress is not None:
                    self.progress(done, total, f"segmenting {name}")
                if (
                    index + 1 == sequence_pass.last
                ):  # the visits after it are only read as far as the look-ahead needs them
                    break
        check(self.cancelled)
        return accumulator

    def _prepared(self, model: Model, where: torch.device, together: int | None) -> tuple[nn.Module, tuning.Plan]:
        precision = "float32"
        if isinstance(model.network, Stepwise):
            precision = inference_settings(model.inference, model.info.name).precision
        return tuning.prepare(model.network, where, together, precision)

    def _passes(
        self,
        sequence_pass: _SequencePass,
        where: torch.device,
        prepared: Sequence[tuple[nn.Module, tuning.Plan]],
        position: int | None,
    ) -> Passes:
        """The mean of the models' answers."""
        if self.window is not None:
            network = prepared[0][0]
            return window_probabilities(network, sequence_pass.channels, self.window, where, self.cancelled), None
        each = [
            self._of_model(m, n, sequence_pass, where, plan, position)
            for m, (n, plan) in zip(self.models, prepared, strict=True)
            if isinstance(n, Stepwise)
        ]
        planes = averaged([p for p, _ in each])
        others = [o for _, o in each if o is not None]
        return planes, averaged(others) if others else None

    def _rows(self, model: Model, sequence_pass: _SequencePass) -> tuple[SliceSteps | None, ...]:
        """The rows of averaged slices that the network reads side by side; None is the slices as they are."""
        if self.window is not None:
            return (None,)
        settings = inference_settings(model.inference, model.info.name)
        return rows_of_steps(sequence_pass.channels[0], sequence_pass.framing, settings) or (None,)

    def _of_model(
        self,
        model: Model,
        network: Stepwise,
        sequence_pass: _SequencePass,
        where: torch.device,
        plan: tuning.Plan,
        position: int | None,
    ) -> Passes:
        """The probabilities that one model's answer comes from, and those that show how sure it is."""
        framing, channels = sequence_pass.framing, sequence_pass.channels
        settings = inference_settings(model.inference, model.info.name)
        samples, views = self.options.samples, self.options.views
        times = known_times(network, framing)

        def passes(row: SliceSteps | None) -> Passes:
            def steps() -> Iterator[Tensor]:
                slices = steps_of(framing, channels, where, position)
                return slices if row is None else row.averaged(slices)

            when = times if row is None or times is None else row.times(times)
            planes = probabilities(network, steps(), settings, plan, when)
            others = varied(network, steps(), plan, samples=samples, views=views, times=when)
            if row is None:
                return planes, others
            return row.interpolated(planes), None if others is None else row.interpolated(others)

        each = [passes(row) for row in self._rows(model, sequence_pass)]
        others = [o for _, o in each if o is not None]
        return averaged([p for p, _ in each]), averaged(others) if others else None
