"""What ``state.sh`` says, as the facts that ``state.py`` gives: ``device`` and ``now``.

The device is not trusted: whatever bytes come, facts come out, bounded and printable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("state.sh")
MOST_BYTES = 1 << 16
MOST_VALUES = 256
MOST_CHARACTERS = 200
ANDROID = {
    "manufacturer": "ro.product.manufacturer",
    "model": "ro.product.model",
    "abi": "ro.product.cpu.abi",
    "release": "ro.build.version.release",
    "sdk": "ro.build.version.sdk",
    "soc": "ro.soc.model",
    "platform": "ro.board.platform",
}
"""A fact about a phone, and the property that holds it."""

Lines = Mapping[str, Sequence[str]]


def parse(content: bytes) -> dict[str, dict[str, Any]]:
    """``{"device": …, "now": …}`` from the script's output; what it does not say is left out."""
    lines = read(content)
    return {"device": known(about_device(lines)), "now": known(now(lines))}


def read(content: bytes) -> dict[str, list[str]]:
    """The values of each key in the order in which they came."""
    found: dict[str, list[str]] = {}
    for line in content[:MOST_BYTES].decode(errors="replace").split("\n"):
        key, tab, value = line.partition("\t")
        text = "".join(character if character.isprintable() else " " for character in value)
        text = text.strip()[:MOST_CHARACTERS]
        if tab and text and len(values := found.setdefault(key, [])) < MOST_VALUES:
            values.append(text)
    return found


def about_device(lines: Lines) -> dict[str, Any]:
    """What does not change during a measurement."""
    android = known({name: one(lines, key) for name, key in ANDROID.items()})
    system = f"Android {android['release']}" if "release" in android else None
    return {
        "board": one(lines, "board") or android.get("model"),
        "cpu": one(lines, "cpu") or android.get("soc"),
        "cores": whole(one(lines, "cores")),
        "core_speeds": core_speeds(lines),
        "kernel": one(lines, "kernel"),
        "machine": one(lines, "machine"),
        "userland": one(lines, "userland"),
        "bits": bits(lines),
        "os": one(lines, "os") or system,
        "libc": one(lines, "libc"),
        "loaders": list(lines.get("loader", ())),
        "memory_bytes": kib(one(lines, "memory")),
        "android": android,
    }


def now(lines: Lines) -> dict[str, Any]:
    """What does change: load, clocks, temperatures, throttling."""
    loads = [number(part) for part in (one(lines, "load") or "").split()[:3]]
    clocks = [whole(value) for value in lines.get("clock_khz", ())]
    throttled = (one(lines, "throttled") or "").partition("=")[2]
    return {
        "load": loads if len(loads) == 3 and None not in loads else None,
        "memory_free_bytes": kib(one(lines, "memory_free")),
        "governor": "/".join(sorted(set(lines.get("governor", ())))) or None,
        "clock_khz": [clock for clock in clocks if clock is not None],
        "temperature_c": zones(lines),
        "throttled": throttled or None,
        "throttle_count": throttle_count(lines),
        "cooling": cooling(lines),
        "thermal_status": whole(one(lines, "thermal_status")),
    }


def bits(lines: Lines) -> int | None:
    """The width of the userland's addresses, which a 64-bit kernel does not tell."""
    width = whole(one(lines, "bits"))
    if width in (32, 64):
        return width
    return {"1": 32, "2": 64}.get(one(lines, "elf_class") or "")


def zones(lines: Lines) -> dict[str, float]:
    """Degrees by the name and the type of each thermal zone."""
    found = {}
    for value in lines.get("zone", ()):
        name, _, rest = value.partition(" ")
        degrees, _, kind = rest.partition(" ")
        if (reading := number(degrees)) is not None:
            found[f"{name} {kind}".strip()] = reading / 1000
    return found


def core_speeds(lines: Lines) -> dict[str, int]:
    """How fast each core can be, by its number; the unit is the device's own."""
    found = {}
    for value in lines.get("core_speed", ()):
        core, _, speed = value.partition(" ")
        if whole(core) is not None and (reading := whole(speed)) is not None:
            found[core] = reading
    return found


def throttle_count(lines: Lines) -> int | None:
    """How often the cores have throttled since they were started, in all."""
    counts = [whole(value) for value in lines.get("throttle_count", ())]
    known_ones = [count for count in counts if count is not None]
    return sum(known_ones) if known_ones else None


def cooling(lines: Lines) -> dict[str, int]:
    """The step of each device that holds a processor's clock back; 0 is none."""
    found = {}
    for value in lines.get("cooling", ()):
        name, _, rest = value.partition(" ")
        step, _, kind = rest.partition(" ")
        if (reading := whole(step)) is not None:
            found[f"{name} {kind}".strip()] = reading
    return found


def one(lines: Lines, key: str) -> str | None:
    """A key's first value."""
    return next(iter(lines.get(key, ())), None)


def number(text: str) -> float | None:
    """A finite number, or None."""
    try:
        found = float(text)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def whole(text: str | None) -> int | None:
    """A whole number that is not negative, or None."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None


def kib(text: str | None) -> int | None:
    """``123 kB`` in bytes, or None."""
    found = whole((text or "").partition(" ")[0])
    return found * 1024 if found is not None else None


def known(facts: dict[str, Any]) -> dict[str, Any]:
    """Only what this device could say."""
    return {key: value for key, value in facts.items() if value not in (None, {}, [])}
