"""A job in napari's own list of activities, at the lower right of the window, where it can also be cancelled."""

from __future__ import annotations

from collections.abc import Callable

from napari.utils.progress import cancelable_progress


class Activity(cancelable_progress):  # type: ignore[misc]
    """One bar in the list from its creation until `close`; it does nothing if there is no window.

    Parameters
    ----------
    title : str
    cancel : callable
        Called when the bar's Cancel button is pressed.
    """

    total: float | None

    def __init__(self, title: str, cancel: Callable[[], object]) -> None:
        self._stop, self._whole = cancel, 0
        super().__init__(desc=title, total=0, gui=True)

    def show_step(self, done: int, total: int) -> None:
        """Show how much of the job is done."""
        if total != self._whole:
            self._whole = self.total = total
        self.update(done - self.n)

    def cancel(self) -> None:
        """Ask the job to stop; napari itself would wait for the next step of a loop."""
        super().cancel()
        self._stop()
