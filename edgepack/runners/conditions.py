"""Before a burst: which cores it runs on, and a device that is cool enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from edgepack.errors import MeasureError
from edgepack.events import step
from edgepack.runtimes.conditions import hottest
from edgepack.spec.target import Protocol

POLL_SECONDS = 5.0
"""Seldom: looking at a device warms it."""


def plan(protocol: Protocol, cores: list[int]) -> dict[str, Any]:
    """What a program on the device is asked to do for a burst."""
    return {
        "threads": protocol.threads,
        "cores": cores,
        "warmup_runs": protocol.warmup_runs,
        "warmup_seconds": protocol.warmup_seconds,
        "warmup_max_seconds": protocol.warmup_max_seconds,
        "runs": protocol.runs,
        "min_seconds": protocol.min_seconds,
        "max_seconds": protocol.max_seconds,
    }


def longest(protocol: Protocol) -> float:
    """The seconds that the burst itself may take on a device: a warm-up's last round is whole."""
    return protocol.warmup_max_seconds + 2 * protocol.max_seconds


def cores_of(protocol: Protocol, facts: Mapping[str, Any], device: str) -> list[int]:
    """The cores to run on; none where the protocol leaves that to the device's system.

    ``facts`` is what the device says of itself. Raises MeasureError where it does not say which
    cores are the fastest.
    """
    if protocol.cores != "big":
        return sorted(set(protocol.cores))
    speeds = facts.get("core_speeds") or {}
    if not speeds:
        raise MeasureError(
            f'{device} does not say how fast its cores are: cores = "big" means nothing there',
            "name them by number in the target's [measure]: cores = [4, 5, 6, 7]",
        )
    best = max(speeds.values())
    return sorted(int(core) for core, speed in speeds.items() if speed == best)


def cooled(
    look: Callable[[], dict[str, Any]],
    protocol: Protocol,
    device: str,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """The device's state once it is cool enough to start, with ``cooled_seconds`` where it waited.

    ``look`` asks the device for its state. A device that tells no temperature is not waited for.
    Raises MeasureError where it is still too hot after the protocol's ``cooldown_seconds``.
    """
    state, start = look(), clock()
    most = protocol.max_start_c
    if most is None or not _too_hot(state, most):
        return state
    with step(f"{device} cools down to {most:g} °C"):
        while _too_hot(state, most):
            left = protocol.cooldown_seconds - (clock() - start)
            if left <= 0:
                raise MeasureError(
                    f"{device} is at {hottest(state):.1f} °C after {protocol.cooldown_seconds:g} s "
                    f"of cooling; the target wants {most:g} °C at the start",
                    "cool it, or raise max_start_c or cooldown_seconds in the target's [measure]",
                )
            sleep(min(POLL_SECONDS, left))
            state = look()
    return {**state, "cooled_seconds": round(clock() - start, 1)}


def _too_hot(state: dict[str, Any], most: float) -> bool:
    found = hottest(state)
    return found is not None and found > most
