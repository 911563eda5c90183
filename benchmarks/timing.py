"""Time whole commands side by side: interleaved, so that a noisy neighbour hits both."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """One run of a command: wall seconds, and the process tree's peak bytes where sampled."""

    seconds: float
    peak_bytes: int


def run(argv: Sequence[str], *, tree: bool = False) -> Run:
    """Run a command to its end. ``tree`` samples the whole process tree's memory every 20 ms."""
    started = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, tree_bytes(process.pid))

    watcher = threading.Thread(target=watch)
    if tree:
        watcher.start()
    _, stderr = process.communicate()
    seconds = time.perf_counter() - started
    done.set()
    if tree:
        watcher.join()
    if process.returncode:
        sys.stderr.write(stderr.decode(errors="replace"))
        raise SystemExit(f"{argv} ended with {process.returncode}")
    return Run(seconds, peak)


def tree_bytes(pid: int) -> int:
    """Proportional resident bytes of a process and all below it (shared pages counted once)."""
    total, waiting = 0, [pid]
    while waiting:
        current = waiting.pop()
        try:
            text = Path(f"/proc/{current}/smaps_rollup").read_text()
            total += (
                next(int(x.split()[1]) for x in text.splitlines() if x.startswith("Pss:")) * 1024
            )
            children = Path(f"/proc/{current}/task/{current}/children").read_text()
            waiting += [int(child) for child in children.split()]
        except (OSError, StopIteration):
            continue
    return total


def interleaved(
    commands: dict[str, Sequence[str]], repeats: int, *, tree: bool = False
) -> dict[str, list[Run]]:
    """A B A B …: each command ``repeats`` times, after one unmeasured run of each."""
    for argv in commands.values():
        run(argv)
    found: dict[str, list[Run]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, argv in commands.items():
            found[name].append(run(argv, tree=tree))
    return found


def line(name: str, runs: Sequence[Run]) -> str:
    """Median wall time with its spread, and the median peak memory."""
    seconds = [r.seconds for r in runs]
    peak = statistics.median(r.peak_bytes for r in runs)
    memory = f"  peak {peak / 2**20:.1f} MiB" if peak else ""
    return (
        f"{name:<28} {statistics.median(seconds) * 1e3:9.1f} ms "
        f"({min(seconds) * 1e3:.1f} to {max(seconds) * 1e3:.1f}){memory}"
    )


def verdict(what: str, ratio: float, goal: float) -> str:
    """A ratio against its goal, met or by how much it is missed."""
    gap = "met" if ratio <= goal else f"missed by {ratio - goal:.2f}"
    return f"{what}: {ratio:.2f}× (goal ≤ {goal}×: {gap})"


def cores() -> str:
    """What the figures were taken on."""
    return f"{os.cpu_count()} cores, Python {sys.version.split()[0]}"
