"""Channels that can only be removed together, found by tying equal ones all over a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edgepack.passes.network import Call, Network, Value

Ids = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Units:
    """The units of a network: sets of channels, one or many, that stay or go together.

    ``of`` gives each index along the last axis of a value its unit. ``pins`` says of a unit why
    it has to stay. ``makers`` are the calls whose layers bring new channels into the network,
    each layer once: those whose filters or neurons can be removed.
    """

    network: Network
    of: Mapping[Value, Ids]
    pins: Mapping[int, str]
    makers: tuple[Call, ...]

    @cached_property
    def count(self) -> int:
        """How many units there are, those that have to stay among them."""
        return 1 + max((int(ids.max()) for ids in self.of.values() if len(ids)), default=-1)

    @cached_property
    def groups(self) -> tuple[Ids, ...]:
        """Units that may go, together where they are in the same values equally often.

        Such units cost the same, as the channels of one residual stage do.
        """
        where: list[list[tuple[Value, int]]] = [[] for _ in range(self.count)]
        for value, ids in self.of.items():
            for unit, times in Counter(ids.tolist()).items():
                where[unit].append((value, times))
        found: dict[tuple[tuple[Value, int], ...], list[int]] = {}
        for unit, places in enumerate(where):
            if unit not in self.pins:
                found.setdefault(tuple(places), []).append(unit)
        return tuple(np.array(units) for units in found.values())

    def reason(self, call: Call) -> str | None:
        """Why no channel of a call's output may go; None where one may."""
        reasons = [self.pins.get(unit) for unit in self.of[call.output].tolist()]
        return None if None in reasons or not reasons else reasons[0]


class Atoms:
    """Channels while a network is walked through: tied in pairs, or pinned with a reason."""

    def __init__(self) -> None:
        self.parents: list[int] = []
        self.reasons: dict[int, str] = {}

    def new(self, count: int) -> Ids:
        """Channels that nothing is known of yet."""
        start = len(self.parents)
        self.parents.extend(range(start, start + count))
        return np.arange(start, start + count)

    def root(self, atom: int) -> int:
        """The channel that stands for all that are tied to ``atom``."""
        while self.parents[atom] != atom:
            self.parents[atom] = self.parents[self.parents[atom]]
            atom = self.parents[atom]
        return atom

    def tie(self, a: Ids, b: Ids) -> None:
        """The channels at the same places stay or go together."""
        for one, other in zip(a.tolist(), b.tolist(), strict=True):
            first, second = sorted((self.root(one), self.root(other)))
            self.parents[second] = first

    def tie_all(self, ids: Ids) -> None:
        """All of the channels stay or go together."""
        for one, other in pairwise(ids):
            self.tie(np.array([one]), np.array([other]))

    def pin(self, ids: Ids, why: str) -> Ids:
        """The channels have to stay; the first reason is the one that is told."""
        for atom in ids.tolist():
            self.reasons.setdefault(atom, why)
        return ids

    def units(self, network: Network, of: Mapping[Value, Ids], makers: tuple[Call, ...]) -> Units:
        """The units, numbered in the order in which they first appear."""
        roots = np.array([self.root(atom) for atom in range(len(self.parents))], np.int64)
        _, inverse = np.unique(roots, return_inverse=True)
        pins: dict[int, str] = {}
        for atom in sorted(self.reasons):
            pins.setdefault(int(inverse[atom]), self.reasons[atom])
        return Units(
            network=network,
            of={value: inverse[ids] for value, ids in of.items()},
            pins=pins,
            makers=makers,
        )
