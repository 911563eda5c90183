"""Sending, repeating, measuring, many at once and counted clocks: the goals for devices.

Everything runs on this machine: a real sshd on loopback, and an emulated board for the last row.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.reference import reference_data
from benchmarks.timing import cores
from edgepack.bench import boards, machine
from edgepack.links.cache import delivered
from edgepack.links.link import Completed, Link, connect
from edgepack.runners import runner
from edgepack.spec.device import Device
from edgepack.spec.target import Protocol
from tests.sshd import Sshd, serving

MODEL = "mlperf_ic_int8"
ROUNDS = 7
BOOTS = 5
FLEET = 20
SLEEP_SECONDS = 3
MEGABYTES = 50


def main() -> None:
    """Print each goal, its figure, and by how much it was missed."""
    model = reference_data() / "models" / f"{MODEL}.tflite"
    print(f"{cores()}; a real sshd on loopback; {MODEL}; {ROUNDS} interleaved rounds")
    with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
        with serving(Path(folder) / "one", "Subsystem sftp internal-sftp") as server:
            _sending(server, Path(folder))
            _whole(server, model)
            _runners(server, model)
        _fleet(Path(folder), model)
    _counted(model)


def _sending(server: Sshd, folder: Path) -> None:
    """A file of 50 MB by the link and by scp, in turns; then the same file once more."""
    file = folder / "file"
    file.write_bytes(os.urandom(MEGABYTES * 1_000_000))
    server.sessions.mkdir(mode=0o700, exist_ok=True)
    known = f"UserKnownHostsFile={server.known_hosts}"
    there = f"127.0.0.1:{server.sessions}/by-scp"
    scp = ["scp", "-q", "-P", str(server.port), "-i", str(server.key), "-o", known]
    scp += [str(file), there]
    ours, theirs = [], []
    link = connect(server.device())
    try:
        for _ in range(ROUNDS):
            theirs.append(_seconds(lambda: subprocess.run(scp, check=True)))
            put = f"{server.sessions}/by-link"
            ours.append(_seconds(lambda put=put: link.put(file, put, timeout_s=120)))  # type: ignore[misc]
        root = str(server.sessions)
        delivered(link, root, file, timeout_s=120)
        again = [
            _seconds(lambda: delivered(link, root, file, timeout_s=120)) for _ in range(ROUNDS)
        ]
    finally:
        link.close()
    ratio = statistics.median(a / b for a, b in zip(theirs, ours, strict=True))
    rate = MEGABYTES / statistics.median(ours)
    _row(
        f"sending {MEGABYTES} MB against scp (which also connects): {rate:.0f} MB/s, "
        f"{ratio:.2f}× its speed",
        ratio - 0.9, "≥ 0.9×",
    )  # fmt: skip
    worst = max(again)
    _row(
        f"the same {MEGABYTES} MB again: {statistics.median(again):.3f} s, at most {worst:.3f} s",
        0.3 - statistics.median(again), "< 0.3 s",
    )  # fmt: skip


class Timed:
    """A link that adds up how long its calls take. See Link."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.seconds = 0.0

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
    ) -> Completed:
        """Run a program there; see Link."""
        with self._timed():
            return self._link.run(argv, timeout_s=timeout_s, env=env, stdin=stdin)

    def put(self, local: Path, remote: str, *, timeout_s: float) -> None:
        """Copy a file to the device; see Link."""
        with self._timed():
            self._link.put(local, remote, timeout_s=timeout_s)

    def get(self, remote: str, local: Path, *, timeout_s: float) -> None:
        """Copy a file from the device; see Link."""
        with self._timed():
            self._link.get(remote, local, timeout_s=timeout_s)

    def close(self) -> None:
        """End the connection."""
        with self._timed():
            self._link.close()

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds += time.monotonic() - started


def _whole(server: Sshd, model: Path) -> None:
    """A whole session against the sum of its calls on the device."""
    from edgepack.measuring.inputs import smooth_inputs
    from edgepack.records import TensorSpec

    image = TensorSpec(name="image", shape=(1, 32, 32, 3), dtype="int8", scale=1.0, zero_point=-128)
    samples = smooth_inputs([image], 8, seed=0)
    kept: list[Timed] = []

    def timed(device: Device) -> Timed:
        kept.append(Timed(connect(device)))
        return kept[-1]

    whole, parts = [], []
    for _ in range(ROUNDS):
        started = time.monotonic()
        with (
            _replaced(runner, "connect", timed),
            runner.session(server.device(python=sys.executable), model, "litert-python") as opened,
        ):
            opened.burst(samples, Protocol())
        whole.append(time.monotonic() - started)
        parts.append(kept[-1].seconds)
    over = statistics.median(a - b for a, b in zip(whole, parts, strict=True))
    _row(
        f"a whole session: {statistics.median(whole):.2f} s, {over:.2f} s over its calls' sum",
        1 - over, "≤ 1 s over",
    )  # fmt: skip


def _runners(server: Sshd, model: Path) -> None:
    """The native runner's latency and memory against the Python agent's, in turns."""
    found: dict[str, list[tuple[float, float]]] = {"litert-native": [], "litert-python": []}
    with _described([server]) as (device,):
        for _ in range(ROUNDS):
            for name, rows in found.items():
                (record,) = _measured(model, [device], "--runner", name)
                peak = record["memory"]["peak_rss_bytes"]
                rows.append((record["latency_us"]["p50"], peak / 1e6))
    native, python = found["litert-native"], found["litert-python"]
    ratios = sorted(a[0] / b[0] for a, b in zip(native, python, strict=True))
    ratio, peak = statistics.median(ratios), statistics.median(row[1] for row in native)
    _row(
        f"native runner: latency {ratio:.3f}× the agent's ({ratios[0]:.3f} to {ratios[-1]:.3f})",
        1 - ratio, "≤ 1.0×",
    )  # fmt: skip
    beside = statistics.median(row[1] for row in python)
    _row(f"native runner: peak {peak:.1f} MB, the agent's {beside:.1f} MB", 10 - peak, "≤ 10 MB")


def _fleet(folder: Path, model: Path) -> None:
    """Twenty devices whose work sleeps, against one."""
    python = folder / "python3"
    python.write_text(
        f'#!/bin/sh\ncase "$1" in *agent.py) sleep {SLEEP_SECONDS};; esac\n'
        f'exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(serving(folder / f"many{n}")) for n in range(FLEET)]
        devices = stack.enter_context(_described(servers, str(python)))
        one = _seconds(lambda: _measured(model, devices[:1], "--runner", "litert-python"))
        many = _seconds(lambda: _measured(model, devices, "--runner", "litert-python"))
    _row(
        f"{FLEET} devices with sleeping work: {many:.1f} s, one: {one:.1f} s, {many / one:.2f}×",
        2 - many / one, "≤ 2×",
    )  # fmt: skip


def _counted(model: Path) -> None:
    """The board whose clock counts instructions, booted several times."""
    board = boards.find("aarch64-icount")
    seen = []
    for _ in range(BOOTS):
        machine.down(board)
        (record,) = _measured(model, [Path("emulated-aarch64-icount")], "--runner", "litert-native")
        seen.append(record["latency_us"]["p50"])
    spread = max(seen) - min(seen)
    _row(
        f"emulated, counted clock, {BOOTS} boots: p50 {seen[0] / 1e3:.4f} virtual ms, "
        f"spread {spread:.3f} µs",
        -spread, "identical",
    )  # fmt: skip


def _measured(model: Path, devices: Sequence[Path], *more: str) -> list[dict[str, Any]]:
    named = [part for device in devices for part in ("--device", str(device))]
    argv = [sys.executable, "-m", "edgepack", "measure", str(model), *named, *more, "--json"]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@contextlib.contextmanager
def _described(servers: Sequence[Sshd], python: str = sys.executable) -> Iterator[list[Path]]:
    """Device files for servers."""
    with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
        files = []
        for number, server in enumerate(servers):
            device = server.device()
            file = Path(folder) / f"loopback{number:02}.toml"
            file.write_text(
                f'link = "ssh"\ntarget = "{device.target}"\naddress = "{device.address}"\n'
                f'[options]\npython = "{python}"\nkey = "{device.options.key}"\n'
                f'known_hosts = "{device.options.known_hosts}"\nworkspace = "{device.workspace}"\n'
            )
            files.append(file)
        yield files


@contextlib.contextmanager
def _replaced(place: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, before)


def _seconds(act: Callable[[], object]) -> float:
    started = time.monotonic()
    act()
    return time.monotonic() - started


def _row(what: str, room: float, goal: str) -> None:
    """One goal: met where there is room left, or by how much it was missed."""
    print(f"{what}; goal {goal}: {'met' if room >= 0 else f'missed by {-room:.3f}'}", flush=True)


if __name__ == "__main__":
    main()
