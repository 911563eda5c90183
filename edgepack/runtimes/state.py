"""What a Linux device says about itself, before and after a measurement.

``python3 state.py`` writes one JSON object to stdout: ``device`` (what does not change) and
``now`` (load, clocks, temperatures, throttling). Python 3.8 and its standard library are enough;
what a device cannot say is left out.
"""

from __future__ import annotations

import json
import os
import platform
import struct
import subprocess
from pathlib import Path
from typing import Any


def text(path: Path | str) -> str | None:
    """A small file's text, or None."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return None


def said(*command: str) -> str | None:
    """A command's output, or None where it is absent or fails."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=5, check=True
        )
        return done.stdout.decode(errors="replace").strip()
    except (OSError, subprocess.SubprocessError):
        return None


def field(path: str, *names: str) -> str | None:
    """The value of the first named line, such as ``MemTotal: …``, of a file in /proc."""
    for line in (text(path) or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in names and value.strip():
            return value.strip()
    return None


def kib(path: str, name: str) -> int | None:
    """A line in kB of a file in /proc as bytes, or None."""
    value = field(path, name)
    return int(value.split()[0]) * 1024 if value else None


def known(facts: dict[str, Any]) -> dict[str, Any]:
    """Only what this device could say."""
    return {key: value for key, value in facts.items() if value not in (None, {}, [])}


def about_device() -> dict[str, Any]:
    """What does not change during a measurement."""
    release = dict(
        line.split("=", 1) for line in (text("/etc/os-release") or "").splitlines() if "=" in line
    )
    cpu = field("/proc/cpuinfo", "model name", "Model", "Hardware", "Processor")
    return known(
        {
            "board": text("/proc/device-tree/model"),
            "cpu": cpu or platform.processor() or None,
            "cores": cores(),
            "core_speeds": core_speeds(),
            "kernel": platform.release(),
            "machine": platform.machine(),
            "userland": said("dpkg", "--print-architecture"),
            "bits": struct.calcsize("P") * 8,
            "os": release.get("PRETTY_NAME", "").strip('"') or None,
            "libc": " ".join(platform.libc_ver()).strip() or None,
            "python": platform.python_version(),
            "memory_bytes": kib("/proc/meminfo", "MemTotal"),
        }
    )


def cores() -> int:
    """The cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def core_speeds() -> dict[str, int]:
    """How fast each core can be: its capacity where the kernel knows it, else its highest clock."""
    found = {}
    for core in sorted(Path("/sys/devices/system/cpu").glob("cpu[0-9]*")):
        speed = text(core / "cpu_capacity") or text(core / "cpufreq/cpuinfo_max_freq") or ""
        if speed.isdigit():
            found[core.name[len("cpu") :]] = int(speed)
    return found


def cooling() -> dict[str, int]:
    """The step to which each device that holds a processor's clock back has been set; 0 is none."""
    found = {}
    for device in sorted(Path("/sys/class/thermal").glob("cooling_device*")):
        kind, step = text(device / "type") or "", text(device / "cur_state") or ""
        if "cpu" in kind.lower() and "idle" not in kind.lower() and step.isdigit():
            found[f"{device.name} {kind}"] = int(step)
    return found


def throttle_count() -> int | None:
    """How often the processor's cores have throttled since they were started (x86)."""
    counts = [
        text(path) or ""
        for path in Path("/sys/devices/system/cpu").glob(
            "cpu[0-9]*/thermal_throttle/core_throttle_count"
        )
    ]
    known = [int(count) for count in counts if count.isdigit()]
    return sum(known) if known else None


def now() -> dict[str, Any]:
    """What does change: load, clocks, temperatures, throttling."""
    clocks = [text(path) for path in cpu_files("scaling_cur_freq")]
    governors = {text(path) or "" for path in cpu_files("scaling_governor")}
    zones = {}
    for zone in sorted(Path("/sys/class/thermal").glob("thermal_zone*")):
        degrees = text(zone / "temp") or ""
        if degrees.lstrip("-").isdigit():
            zones[f"{zone.name} {text(zone / 'type') or ''}".strip()] = int(degrees) / 1000
    throttled = said("vcgencmd", "get_throttled")
    return known(
        {
            "load": list(os.getloadavg()),
            "memory_free_bytes": kib("/proc/meminfo", "MemAvailable"),
            "governor": "/".join(sorted(governors)) or None,
            "clock_khz": [int(clock) for clock in clocks if clock and clock.isdigit()],
            "temperature_c": zones,
            "throttled": throttled.partition("=")[2] if throttled else None,
            "throttle_count": throttle_count(),
            "cooling": cooling(),
        }
    )


def cpu_files(name: str) -> list[Path]:
    """One file of each core's clock control, where the kernel shows it."""
    return sorted(Path("/sys/devices/system/cpu").glob(f"cpu[0-9]*/cpufreq/{name}"))


if __name__ == "__main__":
    print(json.dumps({"device": about_device(), "now": now()}))  # noqa: T201 - its only output
