"""Numbers of lesions that stay when masks are tracked again: a lesion is recognised by the voxels that it shares with
an earlier result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from napari_medseq.progression.graph import Graph
from napari_medseq.sequence import ImageSequence

#: identity → value → voxels
Votes = Mapping[int, Mapping[int, int]]


def votes(graph: Graph, labels: Sequence[ImageSequence | None]) -> dict[int, Counter[int]]:
    """For each identity of a graph, how many of its voxels have which value in these labels, one per visit; 0 does not count."""
    counts: dict[int, Counter[int]] = {}
    for key, lesion in graph.lesions.items():
        seq = labels[key[0]]
        if seq is None:
            continue
        volume = np.asarray(seq.data)
        volume = volume if "z" in seq.axes else volume[np.newaxis]
        values, numbers = np.unique(volume[tuple(lesion.index.T)], return_counts=True)
        here = counts.setdefault(graph.identities[key], Counter())
        here.update({int(v): int(n) for v, n in zip(values, numbers, strict=True) if v})
    return counts


def assigned(counts: Votes, taken: Collection[int]) -> dict[int, int]:
    """For each identity a number of its own, the one with most voxels first; identities for which none is left are not in it."""
    ranked = sorted((-n, value, i) for i, by_value in counts.items() for value, n in by_value.items())
    numbers: dict[int, int] = {}
    used = set(taken)
    for _, value, i in ranked:
        if i not in numbers and value not in used:
            numbers[i] = value
            used.add(value)
    return numbers


def renumbered(graph: Graph, numbers: Mapping[int, int], *, above: int) -> Graph:
    """The graph with these identities under their new numbers, and all others under numbers `above` one, in their order."""
    new = dict(numbers)
    fresh = max([above, *new.values()], default=above)
    for i in sorted(set(graph.identities.values()) - set(new)):
        fresh += 1
        new[i] = fresh
    return replace(graph, reserved={key: new[i] for key, i in graph.identities.items()})
