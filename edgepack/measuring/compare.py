"""Two models in turns on one device, and whether the difference between them is real.

Bursts alternate, A B A B …, each a process of its own, so that whatever changes slowly on the
device (heat, clocks, other work) meets both, and what changes from start to start (where memory
lies) is part of the doubt.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgepack.events import step
from edgepack.measuring.session import Arrays, Session
from edgepack.measuring.statistics import latency
from edgepack.records import Comparison, Pair
from edgepack.runtimes.conditions import throttled
from edgepack.spec.target import Protocol

PAIRS = 12
MARGIN = 0.02
"""A difference below this is none that anybody should act on."""
RESAMPLED = 4000
SEED = 0
"""The same pairs always give the same interval."""


@dataclass(frozen=True, kw_only=True)
class Rival:
    """The other model, and the inputs to measure it with."""

    artefact_sha256: str
    model: str
    recipe: str
    inputs: Arrays


def interleaved(
    one: Session, other: Session, inputs: Arrays, rival: Rival, protocol: Protocol
) -> Iterator[Comparison]:
    """The comparison after each pair of bursts, the last one whole.

    Each burst takes its part of the protocol's runs and seconds, after a warm-up of its own.
    Raises what ended a burst early.
    """
    found = Comparison(
        artefact_sha256=rival.artefact_sha256,
        model=rival.model,
        recipe=rival.recipe,
        margin=MARGIN,
    )
    turn = replace(
        protocol,
        runs=math.ceil(protocol.runs / PAIRS),
        min_seconds=protocol.min_seconds / PAIRS,
    )
    pairs: list[Pair] = []
    with step("compare in turns", total=PAIRS) as advance:
        for _ in range(PAIRS):
            bursts = []
            for session, samples in ((one, inputs), (other, rival.inputs)):
                burst = session.burst(samples, turn)
                if burst.failure is not None:
                    raise burst.failure
                bursts.append(burst)
            a, b = (latency(burst.samples_us) for burst in bursts)
            hot = any(throttled(burst.after, burst.before) for burst in bursts)
            pairs.append(Pair(a_us=a.p50, b_us=b.p50, n=(a.n, b.n), throttled=hot))
            yield judged(replace(found, pairs=tuple(pairs)))
            advance(1)


def judged(found: Comparison) -> Comparison:
    """The comparison with what its pairs say: the change, its interval, the verdict."""
    ratios = [pair.b_us / pair.a_us for pair in found.pairs if pair.a_us > 0]
    if not ratios:
        return found
    low, high = interval(ratios)
    return replace(
        found,
        change=float(np.median(ratios)) - 1,
        ci95=(low - 1, high - 1),
        verdict=verdict(low - 1, high - 1, found.margin)
        if len(ratios) >= PAIRS // 2
        else "can't tell",
    )


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the median by the bootstrap: values are drawn again, with replacement.

    Pairs are what is drawn, not inferences: those of one burst are too much alike.
    """
    given = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(SEED).integers(0, given.size, (RESAMPLED, given.size))
    medians: NDArray[Any] = np.median(given[drawn], axis=1)
    low, high = np.percentile(medians, (2.5, 97.5))
    return float(low), float(high)


def verdict(low: float, high: float, margin: float) -> Literal["real", "not real", "can't tell"]:
    """What an interval of a relative change says, when less than ``margin`` does not matter."""
    if low > margin or high < -margin:
        return "real"
    return "not real" if -margin <= low and high <= margin else "can't tell"
