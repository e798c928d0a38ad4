"""The graph of lesions over visits: which lesion continues in which, the identity of each, and its event at each
visit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby

from napari_medseq.progression.components import Key, Lesion
from napari_medseq.progression.match import Edge

EVENTS = (
    "baseline",
    "new",
    "growing",
    "stable",
    "shrinking",
    "merged",
    "split",
    "complex",
    "resolved",
    "reappeared",
    "cut off",
)
#: a lesion below the smallest measured volume still counts in a merge or split if it is this share of the largest part
_MINOR = 0.1


@dataclass(frozen=True)
class Graph:
    """Lesions, the edges between them, what people excluded, and the identities already given.

    Parameters
    ----------
    lesions : dict of Key to Lesion
        Ordered by visit and number.
    edges : tuple of Edge
        At most one per pair; the parents of one child all belong to one visit, the latest that flows into it.
    excluded : frozenset of Key
        Taken out of tables and labels by a person; kept here, so that nothing is renamed.
    reserved : dict of Key to int
        Identity to give to a lesion that starts one.
    visits : int
        How many there are.
    unseen : frozenset of int
        Visits without a mask: nothing is known of any lesion there.
    """

    lesions: Mapping[Key, Lesion]
    edges: tuple[Edge, ...] = ()
    excluded: frozenset[Key] = frozenset()
    reserved: Mapping[Key, int] = field(default_factory=dict)
    visits: int = 0
    unseen: frozenset[int] = frozenset()

    @cached_property
    def parents(self) -> dict[Key, list[Edge]]:
        """Edges into each lesion."""
        into: dict[Key, list[Edge]] = {key: [] for key in self.lesions}
        for edge in self.edges:
            into[edge.child].append(edge)
        return into

    @cached_property
    def children(self) -> dict[Key, list[Edge]]:
        """Edges out of each lesion."""
        out: dict[Key, list[Edge]] = {key: [] for key in self.lesions}
        for edge in self.edges:
            out[edge.parent].append(edge)
        return out

    @cached_property
    def live_parents(self) -> dict[Key, list[Edge]]:
        """Edges into each lesion that is not excluded, from the latest visit with parents that are not."""
        live = {}
        for key, edges in self.parents.items():
            if key not in self.excluded:
                living = [e for e in edges if e.parent not in self.excluded]
                latest = max((e.parent[0] for e in living), default=0)
                live[key] = [e for e in living if e.parent[0] == latest]
        return live

    @cached_property
    def live_children(self) -> dict[Key, list[Edge]]:
        """The same edges, out of each lesion."""
        out: dict[Key, list[Edge]] = {key: [] for key in self.lesions if key not in self.excluded}
        for edges in self.live_parents.values():
            for edge in edges:
                out[edge.parent].append(edge)
        return out

    def at(self, visit: int) -> list[Lesion]:
        """The lesions of one visit."""
        return [lesion for key, lesion in self.lesions.items() if key[0] == visit]

    @cached_property
    def identities(self) -> dict[Key, int]:
        """Identity of each lesion.

        Visits are gone through in order. The larger a parent, the earlier it hands its identity to its largest child that has
        none yet: so a merge keeps the identity of the largest contributor and a split keeps it on the largest child. Nothing of a
        later visit can change an earlier one.
        """
        identity_of: dict[Key, int] = {}
        used: set[int] = set()
        fresh = max(self.reserved.values(), default=0)
        for visit, group in groupby(self.lesions.values(), key=lambda lesion: lesion.visit):
            members = list(group)
            parents = {edge.parent for lesion in members for edge in self.parents[lesion.key]}
            by_size = sorted(parents, key=lambda k: (-self.lesions[k].volume_mm3, identity_of[k]))
            for parent in by_size:
                heirs = [e for e in self.children[parent] if e.child[0] == visit and e.child not in identity_of]
                # an identity continues once: to the visit in which its lesion is next seen
                if not heirs or any(identity_of.get(e.child) == identity_of[parent] for e in self.children[parent]):
                    continue
                best = max(heirs, key=lambda e: (self.lesions[e.child].volume_mm3, e.share, -e.child[1]))
                identity_of[best.child] = identity_of[parent]
            for lesion in members:
                if lesion.key not in identity_of:
                    reserved = self.reserved.get(lesion.key)
                    if reserved is None or reserved in used:
                        fresh = max(fresh, max(used, default=0)) + 1
                        reserved = fresh
                    identity_of[lesion.key] = reserved
                used.add(identity_of[lesion.key])
        return identity_of

    def seen_before(self, visit: int) -> int | None:
        """The latest visit with a mask before `visit`; None if it is the first."""
        return next((v for v in range(visit - 1, -1, -1) if v not in self.unseen), None)

    def seen_after(self, visit: int) -> int | None:
        """The first visit with a mask after `visit`; None if it is the last."""
        return next((v for v in range(visit + 1, self.visits) if v not in self.unseen), None)

    def is_cut_off(self, key: Key) -> bool:
        """Whether the edge of the field of view cuts a lesion, or one that it came from."""
        keys = [key, *(e.parent for e in self.live_parents.get(key, ()))]
        return any(self.lesions[k].is_cut_off for k in keys)

    def with_reserved_identities(self) -> Graph:
        """The same graph with every identity that starts somewhere reserved for that lesion."""
        return replace(self, reserved={**self.identities, **self.reserved})

    def significant_parts(self, parts: Iterable[Key], min_volume_ml: float) -> set[Key]:
        """The parts of a merge or split that count: measured ones that are not specks compared with the largest
        part."""
        volumes = {key: self.lesions[key].volume_mm3 for key in parts}
        enough = min(1000 * min_volume_ml, _MINOR * max(volumes.values(), default=0.0))
        return {key for key, volume in volumes.items() if volume >= enough}

    def event(self, key: Key, min_volume_ml: float, growth: Callable[[Key, Key], str]) -> str:
        """The change of the lesion up to this visit; `growth` names the change of a one-to-one pair."""
        before = self.seen_before(key[0])
        if before is None:
            return "baseline"
        parents = self.live_parents[key]
        if not parents:
            return "new"
        merged = len(self.significant_parts((e.parent for e in parents), min_volume_ml)) > 1
        split = self.is_piece(key, min_volume_ml)
        if merged or split:
            return "complex" if merged and split else "merged" if merged else "split"
        if any(e.parent[0] < before for e in parents):
            return "reappeared"
        if self.is_cut_off(key):
            return "cut off"
        own = [e for e in parents if self.identities[e.parent] == self.identities[key]]
        return growth(max(own, key=lambda e: self.lesions[e.parent].volume_mm3).parent, key)

    def is_piece(self, key: Key, min_volume_ml: float) -> bool:
        """Whether a lesion is a part of one that fell apart, so that it has no earlier volume of its own to be compared with.

        The part that keeps the identity of the whole is one only where another part counts; a speck that came off it always is.
        """
        parents = self.live_parents[key]
        if parents and all(self.identities[e.parent] != self.identities[key] for e in parents):
            return True
        pieces = [self.significant_parts((s.child for s in self.siblings(e)), min_volume_ml) for e in parents]
        return any(len(parts) > 1 and key in parts for parts in pieces)

    def siblings(self, edge: Edge) -> list[Edge]:
        """Edges from the same parent to the same visit, `edge` among them."""
        return [e for e in self.live_children[edge.parent] if e.child[0] == edge.child[0]]

    def lost(self, visit: int, back: int) -> dict[int, list[Lesion]]:
        """Lesions without a child that were last seen 2 … `back` + 1 visits (with a mask) before `visit`, latest first."""
        ended_by_visit = {}
        seen = [v for v in range(visit - 1, -1, -1) if v not in self.unseen]
        for earlier in seen[1 : 1 + back]:
            ended = [lesion for lesion in self.at(earlier) if not self.children[lesion.key]]
            if ended:
                ended_by_visit[earlier] = ended
        return ended_by_visit

    def at_visits(self, visits: Sequence[int]) -> Graph:
        """The same at some of the visits alone, which are numbered from 0 again; all lesions must be at these."""
        number = {old: new for new, old in enumerate(visits)}

        def key(old: Key) -> Key:
            return number[old[0]], old[1]

        return Graph(
            {key(k): replace(lesion, visit=number[k[0]]) for k, lesion in self.lesions.items()},
            tuple(replace(e, parent=key(e.parent), child=key(e.child)) for e in self.edges),
            frozenset(key(k) for k in self.excluded),
            {key(k): identity for k, identity in self.reserved.items() if k[0] in number},
            len(visits),
            frozenset(number[v] for v in self.unseen if v in number),
        )

    def with_edges(self, edges: Iterable[Edge]) -> Graph:
        """The same lesions with other edges."""
        return replace(self, edges=tuple(sorted(edges, key=lambda e: (e.child, e.parent))))
