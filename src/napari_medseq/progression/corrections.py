"""Manual corrections of the graph of lesions. Each correction makes a new graph, so that undoing it restores the old
one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.errors import MedseqError
from napari_medseq.progression.components import Key, Lesion, groups, label_components
from napari_medseq.progression.graph import Graph
from napari_medseq.progression.match import Edge
from napari_medseq.progression.overlap import Pair


def find(graph: Graph, visit: int, lesion: int) -> Key:
    """The lesion that has an identity at a visit.

    Raises
    ------
    MedseqError
        If there is none.
    """
    for key, identity in graph.identities.items():
        if key[0] == visit and identity == lesion and key not in graph.excluded:
            return key
    lesions_here = sorted(i for k, i in graph.identities.items() if k[0] == visit and k not in graph.excluded)
    raise MedseqError(
        f"There is no lesion {lesion} at visit {visit + 1} of {graph.visits}; lesions there: {lesions_here}."
    )


def link(graph: Graph, visit: int, lesion: int, parent: int, parent_visit: int | None) -> Graph:
    """Add an edge by hand; a parent at another visit than the ones so far replaces them."""
    child = find(graph, visit, lesion)
    if parent_visit is None:
        seen = [k for k, i in graph.identities.items() if i == parent and k[0] < visit and k not in graph.excluded]
        if not seen:
            raise MedseqError(f"Lesion {parent} is not seen before visit {visit + 1}; link a lesion to an earlier one.")
        source = max(seen)
    else:
        source = find(graph, parent_visit, parent)
    if source[0] >= visit:
        raise MedseqError(
            f"Lesion {parent} at visit {source[0] + 1} is not earlier than visit {visit + 1}; swap the two."
        )
    edges = [e for e in graph.edges if e.child != child or (e.parent[0] == source[0] and e.parent != source)]
    return graph.with_edges([*edges, Edge(source, child, 1.0, "manual")])


def unlink(graph: Graph, visit: int, lesion: int, parent: int | None) -> Graph:
    """Remove the edge from one parent, or from all."""
    child = find(graph, visit, lesion)
    removed = [e for e in graph.parents[child] if parent is None or graph.identities[e.parent] == parent]
    if not removed:
        raise MedseqError(f"Lesion {lesion} at visit {visit + 1} has no link to lesion {parent}; nothing to unlink.")
    return graph.with_edges(e for e in graph.edges if e not in removed)


def merge(graph: Graph, visit: int, lesions: Sequence[int]) -> Graph:
    """Make several lesions of one visit one lesion."""
    keys = sorted({find(graph, visit, lesion) for lesion in lesions})
    if len(keys) < 2:
        raise MedseqError("Merging needs two lesions or more of the same visit.")
    largest = max((graph.lesions[k] for k in keys), key=lambda one: one.voxels)
    index = np.concatenate([graph.lesions[k].index for k in keys])
    whole = replace(largest, number=_next_number(graph, visit), index=index)
    return _replaced(graph, keys, [whole], {whole.key: graph.identities[largest.key]})


def split(graph: Graph, visit: int, lesion: int, parts: int | Iterable[Sequence[float]] | None) -> Graph:
    """Cut a lesion in pieces: its separate components, `parts` pieces, or one piece around each given RAS point."""
    key = find(graph, visit, lesion)
    old = graph.lesions[key]
    member, count = _pieces(old, parts)
    if count < 2:
        raise MedseqError(f"Lesion {lesion} at visit {visit + 1} is one piece; say into how many parts to cut it.")
    pieces = sorted(groups(old.index, member, count), key=len, reverse=True)
    number = _next_number(graph, visit)
    new = [replace(old, number=number + k, index=piece) for k, piece in enumerate(pieces)]
    return _replaced(graph, [key], new, {new[0].key: graph.identities[key]})


def exclude(graph: Graph, lesion: int, visit: int | None, min_volume_ml: float) -> Graph:
    """Take a lesion out of tables and labels, at one visit or at all; see `exclude_keys`.

    At all visits, its part of an outline in which it merged with a larger one goes too, and so does what continues that part.
    """
    keys = {k for k, i in graph.identities.items() if i == lesion and visit in (None, k[0]) and k not in graph.excluded}
    if not keys:
        raise MedseqError(f"There is no lesion {lesion}{'' if visit is None else f' at visit {visit + 1}'} to exclude.")
    return exclude_keys(graph, keys, min_volume_ml, continuing=lesion if visit is None else None)


def exclude_keys(graph: Graph, lesions: Iterable[Key], min_volume_ml: float, *, continuing: int | None = None) -> Graph:
    """Take sightings of one lesion out of tables and labels.

    Where another lesion merged with it, that one is still there: of the common outline, the voxels nearer to what is taken out at the
    visit before are taken out, and the others continue the other lesion. A speck that does not count in a merge
    (`Graph.significant_parts`) does not count here. `continuing`: the lesion, of which later sightings and parts of common outlines
    that belong to others are sought too.
    """
    asked, keys = set(lesions), set[Key]()
    first = min(visit for visit, _ in asked)
    for visit in sorted({key[0] for key in graph.lesions if key[0] >= first}):
        here = {key for key in asked if key[0] == visit}
        if continuing is not None:
            living = [lesion.key for lesion in graph.at(visit) if lesion.key not in graph.excluded]
            here |= {key for key in living if graph.identities[key] == continuing}
        merged = set[Key]()
        if continuing is not None:
            merged = {key for key in living if key not in here and _is_shared(graph, key, keys, min_volume_ml)}
        for key in sorted(here | merged):
            graph, part = _own_part(graph, key, keys, min_volume_ml)
            if part is not None and (key in here or part != key):
                keys.add(part)
    bridges = [
        Edge(into.parent, out.child, min(into.certainty, out.certainty), "manual")
        for key in keys
        for into in graph.parents[key]
        for out in graph.children[key]
        if into.parent not in keys and out.child not in keys
    ]
    edge_pairs = {(e.parent, e.child) for e in graph.edges}
    added = {(e.parent, e.child): e for e in bridges if (e.parent, e.child) not in edge_pairs}
    return replace(graph, excluded=graph.excluded | keys).with_edges([*graph.edges, *added.values()])


def _is_shared(graph: Graph, key: Key, out: set[Key], min_volume_ml: float) -> bool:
    """Whether a lesion continues both one of those in `out` and others, and neither as a speck."""
    parents = (e.parent for e in graph.parents[key] if e.parent not in graph.excluded)
    parts = graph.significant_parts(parents, min_volume_ml)
    return bool(parts & out) and bool(parts - out)


def _own_part(graph: Graph, key: Key, out: set[Key], min_volume_ml: float) -> tuple[Graph, Key | None]:
    """The part of a lesion that continues those in `out` and not others that merged with them, cut off; None if nothing does."""
    into = [e for e in graph.parents[key] if e.parent not in graph.excluded]
    own = [graph.lesions[e.parent] for e in into if e.parent in out]
    parts = graph.significant_parts((e.parent for e in into), min_volume_ml)
    others = [graph.lesions[key] for key in sorted(parts - out)]
    if not own or not others:
        return graph, key
    from scipy.spatial import cKDTree

    old = graph.lesions[key]
    points = _common_points([old])
    near_own, near_others = (cKDTree(_common_points(parts)).query(points)[0] for parts in (own, others))
    is_own = near_own <= near_others
    if is_own.all():
        return graph, key
    number = _next_number(graph, key[0])
    rest = replace(old, number=number, index=old.index[~is_own])
    pieces = [rest, replace(old, number=number + 1, index=old.index[is_own])] if is_own.any() else [rest]
    part = pieces[1].key if len(pieces) > 1 else None
    cut = _replaced(graph, [key], pieces, {})
    kept = [e for e in cut.edges if e.child not in (rest.key, part)]
    mine = [replace(e, child=part) for e in into if e.parent in out and part is not None]
    theirs = [replace(e, child=rest.key) for e in into if e.parent not in out]
    return cut.with_edges([*kept, *mine, *theirs]), part


def _common_points(lesions: Sequence[Lesion]) -> NDArray[np.float64]:
    """Centres of all voxels in common RAS mm."""
    return np.concatenate([geometry.apply_points(one.common_affine, one.index[:, ::-1]) for one in lesions])


def _next_number(graph: Graph, visit: int) -> int:
    return 1 + max((k[1] for k in graph.lesions if k[0] == visit), default=0)


def _pieces(old: Lesion, parts: int | Iterable[Sequence[float]] | None) -> tuple[NDArray[np.int64], int]:
    """Piece of each voxel and how many there are."""
    if parts is None:
        _, in_memory_order, count = label_components(old.mask.astype(np.uint8))
        member = np.empty(old.voxels, np.int64)
        member[np.lexsort(old.index.T[::-1])] = in_memory_order
        return member, count
    points = geometry.apply_points(old.affine, old.index[:, ::-1])
    if isinstance(parts, int):
        if not 2 <= parts <= old.voxels:
            raise MedseqError(f"A lesion of {old.voxels} voxels cannot be cut into {parts} parts.")
        seeds = _spread_seeds(points, parts)
    else:
        seeds = np.array([tuple(p) for p in parts], dtype=np.float64)
        if seeds.ndim != 2 or seeds.shape[1] != 3 or len(seeds) < 2:
            raise MedseqError("Give two points or more, each as (r, a, s) in mm, or a number of parts.")
    nearest = ((points[:, None] - seeds[None]) ** 2).sum(axis=2).argmin(axis=1)
    _, member = np.unique(nearest, return_inverse=True)
    return member.astype(np.int64), int(member.max()) + 1


def _spread_seeds(points: NDArray[np.float64], parts: int) -> NDArray[np.float64]:
    """Centres of `parts` compact pieces: farthest points first, then k-means."""
    from scipy.cluster.vq import kmeans2

    seeds = [points[((points - points.mean(axis=0)) ** 2).sum(axis=1).argmax()]]
    while len(seeds) < parts:
        apart = np.min([((points - s) ** 2).sum(axis=1) for s in seeds], axis=0)
        seeds.append(points[apart.argmax()])
    with catch_warnings():
        simplefilter("ignore")  # a piece without voxels keeps its centre
        centres, _ = kmeans2(points, np.array(seeds), iter=20, minit="matrix")
    return np.asarray(centres)


def _replaced(graph: Graph, old: Sequence[Key], new: Sequence[Lesion], identities: dict[Key, int]) -> Graph:
    """Other lesions in place of `old`: they take over its edges, if they touch the neighbour and can be
    distinguished."""
    lesions = {k: v for k, v in graph.lesions.items() if k not in old}
    lesions.update((lesion.key, lesion) for lesion in new)
    edges: dict[tuple[Key, Key], Edge] = {}
    for edge in graph.edges:
        ends = [edge.parent, edge.child]
        if not set(ends) & set(old):
            edges[edge.parent, edge.child] = edge
            continue
        side = 0 if edge.parent in old else 1
        other = graph.lesions[ends[1 - side]]
        for key in _touching(new, other):
            pair = (key, edge.child) if side == 0 else (edge.parent, key)
            edges.setdefault(pair, Edge(*pair, edge.certainty, edge.how, edge.share))
    edges_kept = _one_visit_of_parents(edges.values())
    ordered = dict(sorted(lesions.items()))
    reserved = {k: v for k, v in graph.reserved.items() if k in ordered}
    return replace(graph, lesions=ordered, reserved={**reserved, **identities}).with_edges(edges_kept)


def _touching(pieces: Sequence[Lesion], other: Lesion) -> list[Key]:
    """The pieces that overlap `other` by a tenth of either, or else the one nearest to it."""
    if len(pieces) == 1:
        return [pieces[0].key]
    touched = [piece.key for piece in pieces if Pair(piece, other, None).share > 0.1]
    nearest = min(pieces, key=lambda p: float(np.linalg.norm(p.common_centroid - other.common_centroid)))
    return touched or [nearest.key]


def _one_visit_of_parents(edges: Iterable[Edge]) -> list[Edge]:
    """Keep, for each child, only the edges from the latest visit among its parents."""
    every = list(edges)
    latest: dict[Key, int] = {}
    for e in every:
        latest[e.child] = max(latest.get(e.child, 0), e.parent[0])
    return [e for e in every if e.parent[0] == latest[e.child]]
