"""Patients whose folders have the same name: the one that is opened later gets a number, so that the two are not taken for one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from napari_medseq.errors import warn
from napari_medseq.viewer.layers.conversion import KEY, LayerData


def free_name(name: str, taken: Collection[str]) -> str:
    """This name, with the first number from 2 on that makes it another than all that are taken."""
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name} ({number})"
    return candidate


def renamed_studies(names: Collection[str], taken: Collection[str]) -> dict[str, str]:
    """The names that are taken, each with the one to use instead; said in a warning."""
    new: dict[str, str] = {}
    for name in dict.fromkeys(names):
        if name in taken:
            new[name] = free_name(name, {*taken, *names, *new.values()})
            warn(
                f"A patient called {name} is open already. What was opened now is called {new[name]}; "
                "a further visit of the same patient is opened by Add a visit … in the widget Study."
            )
    return new


def apart(data: Sequence[LayerData], taken: Collection[str]) -> list[LayerData]:
    """Layer data of which no study has a name that is taken by an open one.

    Parameters
    ----------
    data : sequence of LayerData
    taken : collection of str
        Names of the studies that are open, from `studies_in`.
    """
    studies = [str(name) for _, kwargs, _ in data if (name := _facts(kwargs).get("study")) is not None]
    new = renamed_studies(studies, taken)
    if not new:
        return list(data)
    return [(voxels, renamed(kwargs, new), kind) for voxels, kwargs, kind in data]


def renamed(kwargs: Mapping[str, object], new: Mapping[str, str]) -> dict[str, object]:
    """The arguments of a layer, its study and its name as `new` has them."""
    facts = _facts(kwargs)
    old = str(facts.get("study"))
    if old not in new:
        return dict(kwargs)
    title = str(kwargs["name"])
    if title.startswith(old):
        title = new[old] + title.removeprefix(old)
    metadata = kwargs["metadata"]
    assert isinstance(metadata, Mapping)  # the facts are in it
    return {**kwargs, "name": title, "metadata": {**metadata, KEY: {**facts, "study": new[old]}}}


def _facts(kwargs: Mapping[str, object]) -> Mapping[str, object]:
    metadata = kwargs.get("metadata")
    facts = metadata.get(KEY) if isinstance(metadata, Mapping) else None
    return facts if isinstance(facts, Mapping) else {}
