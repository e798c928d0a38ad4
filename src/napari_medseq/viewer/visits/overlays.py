"""The image of one visit over that of another after registration (blink, fade, checkerboard, curtain, difference), and
their alignment with its measures, which can be nudged or computed from landmarks.

The earlier image is resampled onto the later one's grid, with its grey levels matched. This concerns the image only:
no mask is warped, and nothing is measured in what is drawn here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args
from weakref import WeakKeyDictionary, ref

import numpy as np
from numpy.typing import ArrayLike

from napari_medseq import geometry
from napari_medseq.errors import MedseqError, SettingsError
from napari_medseq.geometry import Affine
from napari_medseq.registration import Transform
from napari_medseq.registration.byhand import HandAlignment, fit_landmarks, rigid_about
from napari_medseq.registration.measure import Agreement
from napari_medseq.sequence import SPACE
from napari_medseq.viewer.alignments import set_hand_alignment
from napari_medseq.viewer.canvases.twins import Connections
from napari_medseq.viewer.editing.model import Editing, editing_of
from napari_medseq.viewer.layers import conversion as _layers
from napari_medseq.viewer.layers import studies as _studies
from napari_medseq.viewer.layers.placement import along_of
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.viewer.results.showing import add_layers
from napari_medseq.viewer.visits.comparing import worlds_of
from napari_medseq.viewer.visits.mixing import Mode, difference_colours, largest_difference, mixed_images
from napari_medseq.viewer.visits.overlaid import Overlaid, OverlayJob, brought, overlay_job, prepare_overlay
from napari_medseq.wording import how_many

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer


def overlay(
    viewer: ViewerModel, earlier: int, later: int, mode: Mode = "checkerboard", *, study: str | None = None
) -> Overlay:
    """Show the image of one visit over that of another.

    Parameters
    ----------
    viewer : ViewerModel
    earlier, later : int
        Ordinals of visits of the study, from 0; the overlay has the grid of the later one.
    mode : {"blink", "fade", "checkerboard", "curtain", "difference"}
    study : str, optional
        The patient; by default the one in front.

    Raises
    ------
    MedseqError
        If no volume of a visit is open, or the two cannot be aligned.
    """
    return show_overlay(viewer, prepare_overlay(overlay_job(viewer, earlier, later, study=study)), mode)


class Overlay:
    """An overlay that is shown.

    Attributes
    ----------
    layer : Image
    onto : ndarray, shape (4, 4)
        RAS+ mm of the later visit → RAS+ mm of the earlier one, as drawn now.
    reason : str
        Origin of that alignment, in words.
    """

    def __init__(self, viewer: ViewerModel, overlaid: Overlaid, mode: Mode) -> None:
        self._viewer, self.made, self.job = ref(viewer), overlaid, overlaid.job
        self.onto, self.reason, self._mode = overlaid.onto, overlaid.reason, mode
        self._start, self._how, self._error = overlaid.onto, "", None  # type: Affine, str, float | None
        self.share, self.tile_mm = 0.5, 20.0
        self._links = Connections()
        base = self._base = _layer_of(viewer, overlaid.job)
        self._visit = _studies.facts_of(base).get("visit")
        self._fixed = np.asarray(_layers.to_layer_data(overlaid.job.fixed, visit=self._visit)[0], np.float32)
        self._resample()
        self.layer = self._add(viewer, base)
        self._links.connect(viewer.dims.events.order, lambda _event: self._draw())
        self._links.connect(viewer.layers.events.removed, lambda event: self._removed(event.value))
        self._draw()

    def _add(self, viewer: ViewerModel, base: Layer) -> Image:
        facts = {k: v for k, v in _studies.facts_of(base).items() if k in (*_studies.ABOUT, "along")}
        seq = self.job.fixed.replace(data=np.asarray(self.job.fixed.data, np.float32))
        data = _layers.to_layer_data(
            seq, visit=self._visit, facts={**facts, "role": _studies.DERIVED}, along=along_of(viewer),
            name=f"visit {self.job.earlier + 1} over visit {self.job.later + 1}", contrast_limits=list(base.contrast_limits),
        )  # fmt: skip
        active = viewer.layers.selection.active
        layer: Image = add_layers(viewer, [data])[0]
        viewer.layers.move(viewer.layers.index(layer), viewer.layers.index(base) + 1)  # below the masks
        names = [str(a) for a in viewer.dims.axis_labels]
        if self._visit is not None and "visit" in names:
            viewer.dims.set_point(names.index("visit"), float(self._visit))
        if active is not None:
            viewer.layers.selection.active = active
        return layer

    def close(self) -> None:
        """Remove the overlay."""
        self._links.close()
        viewer = self._viewer()
        if viewer is not None:
            _OVERLAYS.pop(editing_of(viewer), None)
            if self.layer in viewer.layers:
                viewer.layers.remove(self.layer)

    def _removed(self, layer: Layer) -> None:
        if layer is self.layer:
            self.close()

    # -- how it is drawn -----------------------------------------------------------------------------------------------
    @property
    def mode(self) -> Mode:
        """How the two images are combined."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        if mode not in get_args(Mode):
            raise SettingsError(f"There is no overlay {mode!r}; choose {', '.join(get_args(Mode))}.")
        self._mode = mode
        self._draw()

    def set_share(self, share: float) -> None:
        """Set the position of the curtain, or the weight of the earlier image in *fade*: 0 to 1."""
        if not 0 <= share <= 1:
            raise SettingsError(f"A share lies between 0 and 1, not at {share}.")
        self.share = share
        self._draw()

    def set_tile(self, tile_mm: float) -> None:
        """Set the size of the checkerboard's tiles, in mm."""
        if not tile_mm > 0:
            raise SettingsError(f"Tiles of {tile_mm} mm cannot be drawn.")
        self.tile_mm = tile_mm
        self._draw()

    def blink(self) -> bool:
        """Exchange the image that is seen, and return whether it is now the earlier one."""
        self.layer.visible = not self.layer.visible
        return bool(self.layer.visible)

    def _resample(self) -> None:
        moved, seen = brought(self.made, self.onto)
        fixed = self.job.fixed
        self._moved = np.asarray(_layers.to_layer_data(fixed.replace(data=moved), visit=self._visit)[0], np.float32)
        self._seen = np.asarray(_layers.to_layer_data(fixed.replace(data=seen), visit=self._visit)[0])

    def _draw(self) -> None:
        viewer = self._viewer()
        if viewer is None:
            return
        names = [str(a) for a in self.layer.axis_labels]
        inplane = [k for k, name in enumerate(names) if name in SPACE and name != along_of(viewer)]
        tile = [max(1, round(self.tile_mm / abs(s))) if k in inplane else 0 for k, s in enumerate(self.layer.scale)]
        mixed = mixed_images(
            self._mode, self._moved, self._fixed, self._seen, tile=tile, across=inplane[-1], share=self.share
        )
        self.layer.data = mixed
        if self._mode == "difference":
            full = largest_difference(mixed, self._seen)
            self.layer.colormap = difference_colours()
            self.layer.contrast_limits = [-full, full]
        else:
            self.layer.colormap = "gray"
            self.layer.contrast_limits = list(self._base.contrast_limits)
        self.layer.opacity = self.share if self._mode == "fade" else 1.0
        self.layer.visible = True

    # -- the alignment -------------------------------------------------------------------------------------------------
    def measure(self) -> Agreement:
        """How well the two images agree under the present alignment."""
        return self.made.meter.at(self.onto)

    def measure_in_words(self) -> str:
        """The measures of the present alignment, and of the one when the overlay was opened, in words."""
        now, before = self.measure(), self.made.meter.at(self.made.onto)
        return (
            f"mutual information {now.mi:.3f} (at first {before.mi:.3f}), correlation {now.correlation:.3f} ({before.correlation:.3f}), "
            f"bodies overlap {now.dice:.1%} ({before.dice:.1%}); {self.reason}"
        )

    def nudge(self, shift_mm: ArrayLike = (0, 0, 0), turn_deg: ArrayLike = (0, 0, 0)) -> None:
        """Move the earlier image over the later one, relative to its position before it was nudged.

        Parameters
        ----------
        shift_mm : array_like, shape (3,)
            Shift to the patient's right, to anterior and to superior, in mm.
        turn_deg : array_like, shape (3,)
            Rotation about these axes through the centre of the body, in degrees.
        """
        moved = rigid_about(self.made.meter.centre, shift_mm, turn_deg)
        shift, turn = (", ".join(f"{float(v):g}" for v in np.asarray(values)) for values in (shift_mm, turn_deg))
        self._set(self._start @ np.linalg.inv(moved), f"nudged by ({shift}) mm and ({turn})°", None)

    def align_by_landmarks(self, earlier: ArrayLike, later: ArrayLike) -> float:
        """Align landmarks of the two visits rigidly, and return the remaining distance in mm.

        Parameters
        ----------
        earlier, later : array_like, shape (n, 3)
            The same anatomical places, pair by pair, in RAS+ mm of each visit.

        Raises
        ------
        RegistrationError
            If their numbers differ.
        """
        onto, error = fit_landmarks(later, earlier)
        count = len(np.asarray(later).reshape(-1, 3))
        self._set(onto, how_many(count, "landmark"), error)
        self._start = self.onto
        return error

    def take(self, transform: Transform) -> None:
        """Take the alignment from a registration of the earlier image (moving) to the later one (fixed); from a
        deformation only its linear part.

        This moves the image even where visits were left as they are because the registration lies within the tolerance.
        """
        self._set(transform.linear, f"{transform.kind} registration", transform.quality.error_mm)
        self._start = self.onto

    def _set(self, onto: Affine, how: str, error: float | None) -> None:
        self.onto, self._how, self._error, self.reason = geometry.as_affine(onto), how, error, f"{how}, not kept yet"
        self._resample()
        self._draw()

    @property
    def is_changed(self) -> bool:
        """Whether a person has moved the image since the overlay was opened or the alignment was kept."""
        return bool(self._how)

    def put_back(self) -> None:
        """Restore the alignment with which the overlay was opened."""
        self._set(self.made.onto, "", None)
        self._start, self.reason = self.made.onto, self.made.reason

    def keep(self) -> None:
        """Keep the alignment: with the images of the later visit, in the record of the result, and when lesions are
        followed again.

        Raises
        ------
        MedseqError
            If nothing was moved, or the alignment of the earlier visit to the first one is unknown.
        """
        viewer = self._viewer()
        if viewer is None or not self.is_changed:
            raise MedseqError("Nothing was moved. Nudge the earlier image, or set landmarks, first.")
        worlds = worlds_of(viewer, self.job.study)
        base = worlds.get(self.job.earlier)
        if base is None:
            raise MedseqError(
                f"It is not known how visit {self.job.earlier + 1} lies to the first one. Align that one first, or follow lesions."
            )
        how = f"{self._how}, against visit {self.job.earlier + 1}"
        hand = HandAlignment(geometry.as_affine(base @ self.onto), how, self._error)
        set_hand_alignment(viewer, self.job.study, self.job.later, hand)
        self.reason, self._how, self._start = f"by hand: {how}", "", self.onto


def show_overlay(viewer: ViewerModel, overlaid: Overlaid, mode: Mode = "checkerboard") -> Overlay:
    """Show a prepared overlay in place of the one that is shown; see `overlay`."""
    if mode not in get_args(Mode):
        raise SettingsError(f"There is no overlay {mode!r}; choose {', '.join(get_args(Mode))}.")
    close_overlay(viewer)
    viewer = real(viewer)
    overlay = _OVERLAYS[editing_of(viewer)] = Overlay(viewer, overlaid, mode)
    return overlay


def overlay_of(viewer: ViewerModel) -> Overlay | None:
    """The overlay that is shown; None if there is none."""
    return _OVERLAYS.get(editing_of(viewer))


def close_overlay(viewer: ViewerModel) -> None:
    """Remove the overlay, if there is one."""
    overlay = overlay_of(viewer)
    if overlay is not None:
        overlay.close()


_OVERLAYS: WeakKeyDictionary[Editing, Overlay] = WeakKeyDictionary()


def _layer_of(viewer: ViewerModel, job: OverlayJob) -> Layer:
    for layer in viewer.layers:
        facts = _studies.facts_of(layer)
        matches = (facts.get("study"), facts.get("ordinal"), facts.get("name")) == (
            job.study,
            job.later,
            job.fixed.name,
        )
        if matches and _layers.layer_kind(layer) == "image" and "role" not in facts:
            return layer
    raise MedseqError(f"The image of visit {job.later + 1} was closed meanwhile.")
