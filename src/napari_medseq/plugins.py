"""Additions of other packages by entry points: preprocessing steps, networks, response rules. One that cannot be used
is named and skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import TYPE_CHECKING, TypeVar

from napari_medseq.errors import MedseqWarning, warn

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")


class PluginWarning(MedseqWarning):
    """Another package offers something that could not be used; the text names the package and the reason."""


class Table(MutableMapping[str, T]):
    """All objects of one kind by name: the package's own, and those that other packages offer.

    Other packages are loaded the first time that all names are listed, or that a name is looked for that is not the package's own.

    Parameters
    ----------
    group : str
        Group of the entry points, such as ``"napari_medseq.steps"``; each has the name of its object.
    what : str
        What one of these is, for messages: "preprocessing step".
    own : dict of str to object
        What the package itself has, or will enter; another package cannot replace it.
    check : callable
        Returns what is offered, if it can be used; raises `ValueError` with the reason if not.
    """

    def __init__(self, group: str, noun: str, own: dict[str, T], check: Callable[[str, object], T]) -> None:
        self.group, self.what = group, noun
        self._own, self._added, self._check = own, dict[str, T](), check
        self._looked = False

    def __getitem__(self, name: str) -> T:
        if name in self._own:
            return self._own[name]
        self._look()
        return self._added[name]

    def __setitem__(self, name: str, value: T) -> None:
        self._own[name] = value

    def __delitem__(self, name: str) -> None:
        del self._own[name]

    def __iter__(self) -> Iterator[str]:
        self._look()
        yield from self._own
        yield from (name for name in self._added if name not in self._own)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def entered(self, name: str) -> T | None:
        """The object registered here under a name, without loading other packages."""
        return self._own.get(name)

    def _look(self) -> None:
        if self._looked:
            return
        from importlib.metadata import entry_points

        self._looked = True  # before loading: a package may look into this table while it is imported
        for entry in entry_points(group=self.group):
            try:
                checked = self._check(entry.name, entry.load())
                entered = self._own.get(entry.name, self._added.get(entry.name))
                if entered is not None and entered is not checked:
                    raise ValueError("there is one of that name already")
                self._added[entry.name] = checked
            except Exception as error:  # other people's code may fail in any way, and must not take ours with it
                warn(
                    f"The {self.what} {entry.name!r} of the package {_package(entry)} cannot be used and is left out: "
                    f"{str(error) or type(error).__name__}. Update that package, or uninstall it.",
                    PluginWarning,
                )


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.value


def offered() -> dict[str, dict[str, str]]:
    """The installed entry points, from metadata alone, without loading anything.

    Returns
    -------
    dict of str to dict
        Group → name → the package that offers it, with its version.
    """
    from importlib.metadata import entry_points

    groups = ("napari_medseq.steps", "napari_medseq.networks", "napari_medseq.response_rules")
    return {group: {e.name: _package(e) for e in entry_points(group=group)} for group in groups}
