"""What a device's state says about heat: how hot it is, and whether it held its clock back.

A state is the ``now`` of state.py and of state.sh: whatever it lacks, or gets wrong, is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

State = Mapping[str, Any]
THROTTLED_NOW = 0b1111
"""The bits of a Raspberry Pi's ``get_throttled`` that speak of now: voltage, clock, heat."""
HISTORY = 16
"""How much higher the bits stand that say the same of all the time since it was started."""
PROCESSOR = ("cpu", "soc", "pkg", "core", "tctl", "big", "little", "mid", "cluster")
"""What the zones of a processor are called, among batteries, radios and chargers."""


def hottest(state: State) -> float | None:
    """The temperature, in °C, of the hottest part of the processor; of anything where none is one.

    None where the device tells no temperature.
    """
    zones = state.get("temperature_c")
    if not isinstance(zones, Mapping):
        return None
    known = {str(name).lower(): value for name, value in zones.items() if _is_number(value)}
    ours = [
        value
        for name, value in known.items()
        if any(word in name.partition(" ")[2] for word in PROCESSOR)
    ]
    return max(ours or known.values(), default=None)


def throttling(after: State, before: State | None = None) -> str:
    """How the device held its clock back, in a few words; empty where it did not, or did not say.

    ``after`` is the state at the end of a burst. What only counts, or lasts until the device is
    started again, tells of the burst by its difference to ``before``.
    """
    before = before or {}
    bits, old = _bits(after), _bits(before)
    if bits is not None and bits & THROTTLED_NOW:
        return str(after["throttled"])
    if bits is not None and old is not None and (bits & ~old) >> HISTORY & THROTTLED_NOW:
        return f"{after['throttled']}, for a while"
    if _is_number(status := after.get("thermal_status")) and status > 0:
        return f"Android's thermal status {status:g}"
    count, least = after.get("throttle_count"), before.get("throttle_count")
    if _is_number(count) and _is_number(least) and count > least:
        return f"{count - least:g} times"
    held = after.get("cooling")
    steps = held if isinstance(held, Mapping) else {}
    for name, step in steps.items():
        if _is_number(step) and step > 0:
            return f"{name} at step {step:g}"
    return ""


def throttled(after: State, before: State | None = None) -> bool:
    """Whether the device held its clock back; see ``throttling``."""
    return bool(throttling(after, before))


def _bits(state: State) -> int | None:
    try:
        return int(state["throttled"], 16)
    except (KeyError, TypeError, ValueError):
        return None


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
