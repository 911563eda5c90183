"""What a reader of a burst's figures should know, each a sentence with its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgepack.measuring.session import Burst
from edgepack.measuring.statistics import drift, outliers
from edgepack.runtimes.conditions import hottest, throttling
from edgepack.spec.target import Protocol

FEW_OUTLIERS = 0.01
"""The share of samples that may be outliers without a word."""
BUSY = 0.5
"""The load per core above which a device was busy with something else."""


def remarks(burst: Burst, protocol: Protocol, device: dict[str, Any]) -> tuple[str, ...]:
    """The cautions about a burst; ``device`` is what the device says of itself."""
    return (
        *_of_length(burst, protocol),
        *_of_device(burst, protocol, device),
        *_of_samples(burst.samples_us),
    )


def _of_length(burst: Burst, protocol: Protocol) -> list[str]:
    notes = []
    if 0 < len(burst.samples_us) < protocol.runs and burst.failure is None:
        notes.append(
            f"{len(burst.samples_us)} of {protocol.runs} runs: "
            f"the protocol's {protocol.max_seconds:g} s were over"
        )
    if burst.settled is False:
        notes.append(
            f"the speed had not settled after {burst.warmup_runs} runs of warm-up "
            f"(warmup_max_seconds {protocol.warmup_max_seconds:g})"
        )
    return notes


def _of_device(burst: Burst, protocol: Protocol, device: dict[str, Any]) -> list[str]:
    notes = []
    load, cores = burst.before.get("load"), device.get("cores")
    if load and cores and load[0] > BUSY * cores:
        notes.append(f"the device was busy before: load {load[0]:.1f} on {cores} cores")
    governor = burst.before.get("governor")
    if governor and governor != "performance":
        notes.append(f"the clock was not fixed: governor {governor}")
    if protocol.max_start_c is not None and hottest(burst.before) is None:
        notes.append(
            "the device tells no temperature: it may have been hotter at the start than "
            f"{protocol.max_start_c:g} °C"
        )
    if held := throttling(burst.after, burst.before):
        notes.append(f"the device throttled: {held}")
    return notes


def _of_samples(samples_us: Sequence[float]) -> list[str]:
    notes: list[str] = []
    if not samples_us:
        return notes
    far = outliers(samples_us)
    if far.n > FEW_OUTLIERS * len(samples_us):
        notes.append(
            f"{far.n} of {len(samples_us)} runs are outliers (beyond {far.below_us:.3g} to "
            f"{far.above_us:.3g} µs): they are in every figure"
        )
    moved = drift(samples_us)
    if moved is not None and moved.real:
        word = "slower" if moved.change > 0 else "faster"
        notes.append(
            f"the run drifted: its last quarter is {abs(moved.change):.0%} {word} than its first"
        )
    return notes
