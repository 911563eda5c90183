"""What a probed device lacks, or what would spoil its figures, and how to mend each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgepack.runtimes import tables

OLDEST_PYTHON = (3, 8)
ROOM_BYTES = 150 << 20
"""A runtime with numpy takes about 20 MB to send and 70 MB unpacked; models come on top."""
OLDEST_GLIBC: Mapping[str, tuple[int, int]] = {
    "aarch64": (2, 27),
    "armv7l": (2, 34),
    "x86_64": (2, 17),
}
"""The oldest glibc that any runtime's wheels were built for, by arch: see runtimes/*.toml."""
NATIVE = "litert-2.3"
"""The runtime that litert-native is made of."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing to mend: ``what`` names it for programs, the others are lines for people."""

    what: str
    message: str
    hint: str


def findings(
    facts: Mapping[str, Any], *, arch: str, kind: str, workspace: str, python: str
) -> list[Finding]:
    """What to mend on a device, the gravest first. ``facts`` are those of ``probe``."""
    found = [*_runtime(facts, arch, kind, python), *_folder(facts, workspace)]
    return [*found, *_clock(facts, kind)]


def _runtime(facts: Mapping[str, Any], arch: str, kind: str, python: str) -> Iterator[Finding]:
    """What keeps runtimes from running there."""
    native = arch in (tables.load(NATIVE).arches or ())
    if arch not in OLDEST_GLIBC:
        yield Finding(
            what="arch",
            message=f"no runtime exists for {arch}",
            hint="edgepack measures on " + ", ".join(OLDEST_GLIBC),
        )
        return
    if kind == "android":
        return  # a phone has no Python; litert-native brings all that it needs
    version = facts.get("python")
    if version is None:
        yield Finding(
            what="python",
            message=f"`{python}` does not run there",
            hint="on the device: sudo apt install python3; or set options.python"
            + _or_native(native, "needs none"),
        )
    elif _numbers(version) < OLDEST_PYTHON:
        yield Finding(
            what="python",
            message=f"Python {version} is older than 3.8, the oldest that the agent runs on",
            hint="install a newer one and set options.python" + _or_native(native, "needs none"),
        )
    yield from _libc(facts, arch, native)
    packages = facts.get("packages", {})
    if version is not None and arch == "armv7l" and "numpy" not in packages:
        yield Finding(
            what="numpy",
            message="Python has no numpy, and there are no wheels of it for 32-bit Arm",
            hint="on the device: sudo apt install python3-numpy (a version below 2)",
        )


def _or_native(native: bool, why: str) -> str:
    """The way without Python, where it is one."""
    return f", or use --runner litert-native, which {why}" if native else ""


def _libc(facts: Mapping[str, Any], arch: str, native: bool) -> Iterator[Finding]:
    """A C library that no runtime's wheels were built for."""
    if facts.get("packages", {}).keys() & {"ai-edge-litert", "tflite-runtime"}:
        return  # what is installed runs there
    name, _, release = str(facts.get("libc", "")).partition(" ")
    if "glibc" not in name:
        if any("ld-musl" in loader for loader in facts.get("loaders", ())):
            yield Finding(
                what="musl",
                message="its C library is musl, which no runtime's wheels were built for",
                hint="use a system with glibc" + _or_native(native, "brings its own C library"),
            )
        return
    least = OLDEST_GLIBC[arch]
    if _numbers(release) < least:
        yield Finding(
            what="glibc",
            message=f"glibc {release} is older than {least[0]}.{least[1]}, which the runtimes need",
            hint="upgrade the system" + _or_native(native, "brings its own"),
        )


def _folder(facts: Mapping[str, Any], workspace: str) -> Iterator[Finding]:
    """What keeps jobs from using their folder."""
    elsewhere = "set options.workspace in the device's TOML to another folder"
    state = facts.get("workspace", {}).get("state")
    if state == "denied":
        yield Finding(
            what="workspace", message=f"{workspace} cannot be written there", hint=elsewhere
        )
    elif state == "foreign":
        yield Finding(
            what="workspace", message=f"{workspace} is another user's there", hint=elsewhere
        )
    elif state == "noexec":
        yield Finding(
            what="noexec",
            message=f"{workspace} lies on a file system that runs no programs (noexec)",
            hint=f"{elsewhere}, such as one in your home folder",
        )
    free = facts.get("workspace", {}).get("free_bytes")
    if free is not None and free < ROOM_BYTES:
        yield Finding(
            what="room",
            message=f"{free / 1e6:.0f} MB are free for {workspace}; a runtime in Python needs "
            f"about {ROOM_BYTES / 1e6:.0f} MB, the native one 20 MB",
            hint=f"make room there, or {elsewhere}",
        )


def _clock(facts: Mapping[str, Any], kind: str) -> Iterator[Finding]:
    """What lets figures vary."""
    governor = facts.get("governor")
    if governor and governor != "performance":
        yield Finding(
            what="governor",
            message=f"the clock is not fixed: governor {governor}",
            hint="a phone without root cannot change it: let it cool, and compare interleaved runs"
            if kind == "android"
            else "on the device: echo performance | sudo tee "
            "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
        )
    flags = str(facts.get("throttled", "0x0"))
    if flags not in ("0x0", "0"):
        yield Finding(
            what="power",
            message=f"it has been short of power or too hot since it started (throttled={flags})",
            hint="use the board's own power supply and a cooler, then start it again",
        )


def _numbers(version: str) -> tuple[int, int]:
    """The first two numbers of a version; zeros where it has none."""
    parts = [part for part in version.split(".")[:2] if part.isascii() and part.isdigit()]
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 else (0, 0)
