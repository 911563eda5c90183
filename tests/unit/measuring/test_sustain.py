"""A sustained load as a string of bursts, on a clock that the test turns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from edgepack.errors import MeasureError
from edgepack.measuring.sustain import BINS, LONGEST, SHORTEST, drift, sustain
from edgepack.records import Bin
from edgepack.runners.runner import Burst
from edgepack.spec.target import Protocol

HOT = {
    "temperature_c": {"thermal_zone0 cpu-thermal": 81.5, "thermal_zone1 battery": 90.0},
    "clock_khz": [600_000, 1_500_000],
    "throttled": "0x4",
}


class Load:
    """A device whose burst takes the protocol's seconds and one more to start."""

    def __init__(self, failing: int | None = None) -> None:
        self.now, self.asked, self.failing = 0.0, [], failing

    def clock(self) -> float:
        return self.now

    def burst(self, inputs: Any, protocol: Protocol) -> Burst:
        self.asked.append(protocol)
        self.now += protocol.min_seconds + 1
        lost = MeasureError("crashed") if len(self.asked) == self.failing else None
        samples = () if lost else (1e6,) * round(protocol.min_seconds)
        return Burst(samples_us=samples, after=HOT, failure=lost)


def going(load: Load, seconds: float) -> Iterator[Any]:
    return sustain(load, [], Protocol(max_start_c=50.0), seconds, clock=load.clock)


@pytest.mark.parametrize(
    ("seconds", "each"), [(600.0, LONGEST), (300.0, 5.0), (10.0, SHORTEST), (1.0, 1.0)]
)
def test_bursts_follow_each_other_until_the_time_is_over(seconds: float, each: float) -> None:
    load = Load()
    *_, found = going(load, seconds)
    assert {protocol.min_seconds for protocol in load.asked} == {each}
    assert len(found.bins) == len(load.asked)
    assert seconds <= found.seconds < seconds + each + 1
    assert len(found.bins) <= BINS + 1
    first, *_ = found.bins
    assert (first.start_s, first.p50_us, first.temperature_c) == (0.0, 1e6, 81.5)
    assert (first.clock_khz, first.throttled) == (1_500_000, True)


def test_nothing_cools_down_or_warms_up_in_between() -> None:
    load = Load()
    list(going(load, 10))
    asked = load.asked[0]
    assert (asked.max_start_c, asked.warmup_runs, asked.warmup_max_seconds) == (None, 0, 0.0)
    assert (asked.runs, asked.min_seconds) == (1, asked.max_seconds)


def test_what_ends_a_burst_ends_the_load_and_its_bins_stay() -> None:
    taken = []
    with pytest.raises(MeasureError, match="crashed"):
        taken.extend(going(Load(failing=3), 10))
    assert [len(found.bins) for found in taken] == [1, 2]


def bins(medians: list[float], each: float = 10.0) -> list[Bin]:
    return [
        Bin(
            start_s=place * each, seconds=each, n=9,
            min_us=m, p50_us=m, p90_us=m, p99_us=m, max_us=m,
        )
        for place, m in enumerate(medians)
    ]  # fmt: skip


def test_drift_is_of_the_first_minute_and_the_last() -> None:
    found = drift(bins([10.0] * 6 + [99.0] * 20 + [13.0] * 6))
    assert found is not None
    assert (found.first_us, found.last_us, found.change, found.real) == (
        10.0, 13.0, pytest.approx(0.3), True,
    )  # fmt: skip
    short = drift(bins([10.0] * 6 + [99.0] * 12 + [10.0] * 6, each=2.0))  # its quarters
    assert short is not None
    assert (short.last_us, short.real) == (10.0, False)
    assert drift(bins([10.0, 20.0])) is None
