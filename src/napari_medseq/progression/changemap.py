"""A voxel-wise map of change between two visits (new, gone, grown, shrunk) on the later visit's grid.

It is for display only: to draw it the earlier mask is resampled onto the later grid, and no measure or event is taken
from it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.errors import MedseqError
from napari_medseq.progression.tracked import Tracked
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.grid import itk_affine, resample

UNCHANGED, NEW, GONE, GROWN, SHRUNK, UNSEEN = range(1, 7)
#: value in the map → its name
CHANGES = {
    UNCHANGED: "unchanged",
    NEW: "new",
    GONE: "gone",
    GROWN: "grown",
    SHRUNK: "shrunk",
    UNSEEN: "not seen before",
}

Identities = NDArray[np.integer]


def mark_changes(
    before: Identities,
    after: Identities,
    flows: set[tuple[int, int]],
    seen: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """The change of each voxel between two label arrays of one shape.

    Parameters
    ----------
    before, after : ndarray of int
        Identity of the lesion at each voxel, 0 where there is none.
    flows : set of (int, int)
        Pairs of an earlier lesion and the later one in which it continues.
    seen : ndarray of bool, optional
        Where the earlier visit's field of view reaches; by default everywhere.

    Returns
    -------
    ndarray of uint8
        0 where there is no lesion at either visit, else a value of `CHANGES`. A voxel that is lesion only later is ``grown`` where
        its lesion comes from an earlier one and ``new`` otherwise; one that was lesion only earlier is ``shrunk`` where its lesion
        goes on and ``gone`` otherwise.
    """
    before_mask, now = before != 0, after != 0
    going, coming = [e for e, _ in flows], [later for _, later in flows]
    out = np.zeros(after.shape, np.uint8)
    out[before_mask & now] = UNCHANGED
    out[now & ~before_mask] = np.where(np.isin(after[now & ~before_mask], coming), GROWN, NEW)
    out[before_mask & ~now] = np.where(np.isin(before[before_mask & ~now], going), SHRUNK, GONE)
    if seen is not None:
        out[now & ~seen] = UNSEEN
    return out


def flows_between(tracked: Tracked, earlier: int, later: int) -> set[tuple[int, int]]:
    """The pairs of lesions, by identity, of which the first at one visit continues in the second at a later visit,
    through the visits between."""
    graph = tracked.graph
    names = graph.identities
    flows = set()
    for lesion in graph.at(later):
        if lesion.key in graph.excluded:
            continue
        reached, before = set(), {lesion.key}
        while before:
            parents = {edge.parent for key in before for edge in graph.live_parents.get(key, ())}
            reached |= {key for key in parents if key[0] == earlier}
            before = {key for key in parents if key[0] > earlier}
        flows |= {(names[key], names[lesion.key]) for key in reached}
    return flows


def change_map(tracked: Tracked, earlier: int, later: int) -> ImageSequence:
    """Labels of where lesions are new, gone, grown and shrunk between two visits.

    Parameters
    ----------
    tracked : Tracked
        The lesions, followed.
    earlier, later : int
        Visits, from 0.

    Returns
    -------
    ImageSequence
        Labels on the later visit's grid, with the names of `CHANGES`. The earlier mask is put there by the visits' registration,
        each voxel taking the nearest one's value; so a border may differ by half a voxel of the coarser grid without any change.

    Raises
    ------
    MedseqError
        If there are no such visits in that order, or one has no mask.
    """
    labels = tracked.labels
    if not 0 <= earlier < later < len(labels):
        raise MedseqError(
            f"Visits {earlier + 1} and {later + 1} of {len(labels)} cannot be compared; give an earlier and a later one."
        )
    first, last = labels[earlier], labels[later]
    for visit, mask in ((earlier, first), (later, last)):
        if mask is None:
            raise MedseqError(f"Visit {visit + 1} has no mask: nothing is known of change there. Choose another visit.")
    assert first is not None
    assert last is not None
    # later world → earlier world, which is the direction that resampling asks for
    onto = np.linalg.inv(tracked.to_common(earlier)) @ tracked.to_common(later)
    lps = geometry.RAS_LPS
    transform = itk_affine(np.asarray(lps @ onto @ lps))
    before = resample(first, last.affine, last.grid, transform=transform, interpolation="nearest")
    view = first.replace(data=np.ones(first.data.shape, np.uint8))
    seen = resample(view, last.affine, last.grid, transform=transform, interpolation="nearest")
    data = mark_changes(
        np.asarray(before.data),
        np.asarray(last.data),
        flows_between(tracked, earlier, later),
        np.asarray(seen.data) > 0,
    )
    return last.labels_like(data, name=f"change from visit {earlier + 1} to {later + 1}", label_names=CHANGES)
