"""A sustained load: inference after inference for minutes, and how fast they stay.

The device takes a burst, in which nothing stands between two inferences; here they are strung
together. Between two bursts lies what it takes to start the next one, which each bin's start
shows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgepack.events import step
from edgepack.measuring.session import Arrays, Burst, Session
from edgepack.measuring.statistics import change, latency
from edgepack.records import Bin, Drift, Sustained
from edgepack.runtimes.conditions import hottest, throttled
from edgepack.spec.target import Protocol

BINS = 60
"""At least so many bursts, as long as one is not shorter than ``SHORTEST``."""
SHORTEST, LONGEST = 2.0, 10.0
"""Seconds of one burst: starting one takes a part of a second, and raw samples fill memory."""
MINUTE = 60.0


def sustain(
    session: Session,
    inputs: Arrays,
    protocol: Protocol,
    seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Sustained]:
    """The load after each burst, until ``seconds`` are over. Raises what ended a burst early."""
    each = min(LONGEST, max(SHORTEST, seconds / BINS), seconds)
    burst_of = replace(
        protocol,
        warmup_runs=0,
        warmup_seconds=0.0,
        warmup_max_seconds=0.0,
        runs=1,
        min_seconds=each,
        max_seconds=max(each, 1e-3),
        max_start_c=None,  # it is to get as hot as it gets
    )
    bins: list[Bin] = []
    begin = clock()
    with step("sustained load", total=round(seconds)) as advance:
        while not bins or clock() - begin < seconds:
            started = clock() - begin
            burst = session.burst(inputs, burst_of)
            if burst.samples_us:
                bins.append(_bin(started, burst))
                yield Sustained(seconds=clock() - begin, bins=tuple(bins), drift=drift(bins))
            if burst.failure is not None:
                raise burst.failure
            advance(round(clock() - begin) - round(started))


def drift(bins: Sequence[Bin]) -> Drift | None:
    """The first minute against the last one; of a run below two minutes the quarters."""
    end = bins[-1].start_s + bins[-1].seconds
    part = MINUTE if end >= 2 * MINUTE else end / 4
    first = [one.p50_us for one in bins if one.start_s + one.seconds / 2 <= part]
    last = [one.p50_us for one in bins if one.start_s + one.seconds / 2 >= end - part]
    return change(first, last)


def _bin(started: float, burst: Burst) -> Bin:
    found = latency(burst.samples_us)
    return Bin(
        start_s=round(started, 3),
        seconds=sum(burst.samples_us) / 1e6,
        n=found.n,
        min_us=found.min,
        p50_us=found.p50,
        p90_us=found.p90,
        p99_us=found.p99,
        max_us=found.max,
        temperature_c=hottest(burst.after),
        clock_khz=_fastest(burst.after),
        throttled=throttled(burst.after, burst.before),
    )


def _fastest(state: Mapping[str, Any]) -> int | None:
    clocks = state.get("clock_khz")
    known = [clock for clock in clocks if isinstance(clock, int)] if clocks else []
    return max(known, default=None)
