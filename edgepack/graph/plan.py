"""The activation arena: when each tensor lives, where it lies, and what no plan can beat.

The plan is the one that TensorFlow Lite for Microcontrollers makes: largest first, each at the
lowest offset where nothing that lives at the same time lies. Nothing is computed in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepack.graph.types import Graph, Operator, Subgraph

ALIGNMENT = 16


@dataclass(frozen=True, kw_only=True)
class Lifetime:
    """A computed tensor of ``size`` bytes, needed from moment ``first`` to ``last``, both in."""

    subgraph: int
    tensor: int
    size: int
    first: int
    last: int


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where a tensor lies in the arena, in bytes from its start."""

    lifetime: Lifetime
    offset: int


@dataclass(frozen=True, kw_only=True)
class EntryPlan:
    """The arena of one entry point: a subgraph that no other calls, and all that it calls."""

    subgraph: int
    arena_bytes: int
    lower_bound_bytes: int
    placements: tuple[Placement, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The arena of a model: that of its largest entry point, as only one runs at a time."""

    arena_bytes: int
    lower_bound_bytes: int
    entries: tuple[EntryPlan, ...]


def plan(graph: Graph) -> Plan:
    """The greedy plan of every entry point. Dynamic dimensions count as the file states them."""
    called = {
        index
        for subgraph in graph.subgraphs
        for operator in subgraph.operators
        for index in operator.calls
    }
    roots = [subgraph.index for subgraph in graph.subgraphs if subgraph.index not in called]
    entries = tuple(plan_entry(graph, index) for index in roots)
    return Plan(
        arena_bytes=max(entry.arena_bytes for entry in entries),
        lower_bound_bytes=max(entry.lower_bound_bytes for entry in entries),
        entries=entries,
    )


def plan_entry(graph: Graph, subgraph: int) -> EntryPlan:
    """The greedy plan of one subgraph and all that it calls."""
    found = lifetimes(graph, subgraph)
    placements = place(found)
    ends = [aligned(item.offset + item.lifetime.size) for item in placements]
    return EntryPlan(
        subgraph=subgraph,
        arena_bytes=max(ends, default=0),
        lower_bound_bytes=lower_bound(found),
        placements=tuple(placements),
    )


def aligned(size: int) -> int:
    """``size`` rounded up to the arena's alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def lower_bound(found: Sequence[Lifetime]) -> int:
    """The most bytes that live at one moment."""
    changes: dict[int, int] = {}
    for item in found:
        changes[item.first] = changes.get(item.first, 0) + item.size
        changes[item.last + 1] = changes.get(item.last + 1, 0) - item.size
    live = most = 0
    for moment in sorted(changes):
        live += changes[moment]
        most = max(most, live)
    return most


def place(found: Sequence[Lifetime]) -> list[Placement]:
    """Offsets of tensors, in the order of ``found``; those that live together never overlap."""
    order = sorted(range(len(found)), key=lambda index: -aligned(found[index].size))
    offsets: list[int] = [0] * len(found)
    # Placed tensors in the order of their offsets: an array, as every step looks at all of them.
    placed = np.empty((4, len(found)), np.int64)
    start, end, first, last = placed
    for count, index in enumerate(order):
        item = found[index]
        beside = (first[:count] <= item.last) & (last[:count] >= item.first)
        offset = _gap(start[:count][beside], end[:count][beside], item.size)
        at = int(np.searchsorted(start[:count], offset, side="right"))
        placed[:, at + 1 : count + 1] = placed[:, at:count]
        placed[:, at] = offset, aligned(offset + item.size), item.first, item.last
        offsets[index] = offset
    return [
        Placement(lifetime=item, offset=offset) for item, offset in zip(found, offsets, strict=True)
    ]


def _gap(start: NDArray[np.int64], end: NDArray[np.int64], size: int) -> int:
    """The lowest offset with ``size`` free bytes between neighbours sorted by ``start``."""
    if not len(start) or start[0] >= size:
        return 0
    reach = np.maximum.accumulate(end)
    fits = start[1:] - reach[:-1] >= size
    nearest = int(np.argmax(fits)) if len(fits) else 0
    return int(reach[nearest]) if len(fits) and fits[nearest] else int(reach[-1])


def lifetimes(graph: Graph, subgraph: int = 0) -> list[Lifetime]:
    """When each computed tensor of ``subgraph``, and of all that it calls, is needed.

    A caller's operands live while what it calls runs. A subgraph that is called from several
    places keeps its tensors throughout, as variables do.
    """
    walk = _Walk(graph)
    walk.visit(subgraph)
    return walk.lifetimes()


class _Walk:
    """One pass through time over an entry point and the subgraphs that it calls."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.moment = 0
        self.spans: dict[int, dict[int, tuple[int, int]]] = {}
        self.throughout: set[int] = set()

    def visit(self, index: int) -> None:
        if index in self.spans:
            self._keep(index)
            return
        subgraph = self.graph.subgraphs[index]
        spans = self.spans.setdefault(index, {})
        begin = self.moment
        for tensor in subgraph.inputs:
            spans[tensor] = (begin, begin)
        for operator in subgraph.operators:
            self._run(operator, spans, begin)
        self.moment += 1
        for tensor in subgraph.outputs:
            spans[tensor] = (spans.get(tensor, (begin, begin))[0], self.moment)

    def _run(self, operator: Operator, spans: dict[int, tuple[int, int]], begin: int) -> None:
        self.moment += 1
        started = self.moment
        for called in operator.calls:
            self.visit(called)
        for tensor in operator.inputs:
            if tensor >= 0:
                spans[tensor] = (spans.get(tensor, (begin, begin))[0], self.moment)
        for tensor in operator.outputs:
            spans[tensor] = (min(spans.get(tensor, (started, 0))[0], started), self.moment)

    def _keep(self, index: int) -> None:
        """Keep the tensors of a subgraph, and of those that it calls, throughout."""
        if index in self.throughout:
            return
        self.throughout.add(index)
        for operator in self.graph.subgraphs[index].operators:
            for called in operator.calls:
                self._keep(called)

    def lifetimes(self) -> list[Lifetime]:
        return [
            item
            for index, spans in self.spans.items()
            for item in self._of(self.graph.subgraphs[index], spans)
        ]

    def _of(self, subgraph: Subgraph, spans: dict[int, tuple[int, int]]) -> list[Lifetime]:
        found = []
        for index, (first, last) in sorted(spans.items()):
            tensor = subgraph.tensors[index]
            if tensor.constant or not tensor.size_bytes:
                continue
            always = tensor.is_variable or subgraph.index in self.throughout
            found.append(
                Lifetime(
                    subgraph=subgraph.index,
                    tensor=index,
                    size=tensor.size_bytes,
                    first=0 if always else first,
                    last=self.moment if always else last,
                )
            )
        return found
