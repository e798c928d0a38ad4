"""What a new result takes over from an earlier one of the same visits: numbers of lesions, corrections, and what it was
made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from napari_medseq.progression.reapply import Correction
from napari_medseq.sequence import ImageSequence

#: facts of the record with an entry per visit, in their order, or named "visit 1", "visit 2" …
_LISTED, _NAMED = "inputs", "painted_voxels"


@dataclass(frozen=True, eq=False)
class Earlier:
    """An earlier result, as far as a new one takes it over.

    Attributes
    ----------
    masks, labels : sequence of ImageSequence or None
        The mask and the lesions of each visit; None at a visit without a mask.
    numbers : frozenset of int
        The identities of all its lesions.
    made : sequence of Correction
    provenance : mapping
    """

    masks: Sequence[ImageSequence | None]
    labels: Sequence[ImageSequence | None]
    numbers: frozenset[int]
    made: Sequence[Correction]
    provenance: Mapping[str, object]

    def in_order(self, visits: Sequence[int]) -> Earlier:
        """The same with its visits in another order.

        Parameters
        ----------
        visits : sequence of int
            The present number of each visit, from 0, in the new order.
        """
        new = {old: number for number, old in enumerate(visits)}
        provenance = dict(self.provenance)
        listed, named = provenance.get(_LISTED), provenance.get(_NAMED)
        if isinstance(listed, Sequence) and len(listed) == len(visits):
            provenance[_LISTED] = [listed[old] for old in visits]
        if isinstance(named, Mapping):
            names = {f"visit {old + 1}": f"visit {number + 1}" for old, number in new.items()}
            provenance[_NAMED] = {names.get(name, name): value for name, value in named.items()}
        return Earlier(
            [self.masks[v] for v in visits], [self.labels[v] for v in visits], self.numbers,
            [correction.renumbered(new) for correction in self.made], provenance,
        )  # fmt: skip

    def has_visits_of(self, masks: Sequence[ImageSequence | None]) -> bool:
        """Whether these masks, one per visit, lie on the same grids in the same order."""
        return len(self.masks) == len(masks) and all(
            a is b is None or (a is not None and b is not None and a.same_grid(b))
            for a, b in zip(self.masks, masks, strict=True)
        )
