"""Ctrl-C at any moment: code 130, finished cells kept, nothing half-written or left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command import edgepack, records, validate
from tests.tiny import Tiny

pytestmark = [pytest.mark.e2e, pytest.mark.tf, pytest.mark.slow]
SCHEMES = ("float32", "float16", "dynamic", "int8", "int16x8")


def start(*argv: object) -> subprocess.Popen[str]:
    """The command, in a process group of its own as a terminal gives it."""
    return subprocess.Popen(
        [sys.executable, "-m", "edgepack", *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def interrupt(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Ctrl-C for the whole group; the code and what was printed."""
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def group_is_gone(process: subprocess.Popen[str]) -> bool:
    """Whether no process of the group is left."""
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


def leftovers(folder: Path) -> list[Path]:
    """Temporary files that should have been renamed or removed."""
    return [path for path in folder.rglob("*") if path.name.endswith(".part")]


@pytest.mark.parametrize("seconds", [0.5, 1.5, 3.0])
def test_interrupted_before_the_first_cell(tiny: Tiny, tmp_path, seconds):
    process = start(
        "pack", tiny.model, "--target", "generic-linux-x86_64", "--recipe", "float32",
        "-o", tmp_path / "out", "--json",
    )  # fmt: skip
    time.sleep(seconds)
    code, out, err = interrupt(process)
    assert (code, out) == (130, ""), err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
    assert group_is_gone(process)


def test_interrupted_between_cells_keeps_what_is_done_and_resumes(tiny: Tiny, tmp_path):
    out = tmp_path / "out"
    argv: list[object] = ["pack", tiny.model, "--target", "generic-linux-x86_64", "-o", out]
    argv += [word for scheme in SCHEMES for word in ("--recipe", scheme)]
    argv += ["--calibration", tiny.calibration, "--evaluation", tiny.evaluation, "--json"]
    process = start(*argv)
    deadline = time.monotonic() + 120
    while len(list(out.glob("packs/*/*/*/pack.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    code, printed, err = interrupt(process)
    assert code == 130, err
    done = {record["recipe"]: record for record in records(printed)}
    stored = {p.parent.name: json.loads(p.read_text()) for p in out.glob("packs/*/*/*/pack.json")}
    assert 2 <= len(done) <= len(stored) < len(SCHEMES)
    for record in stored.values():
        validate(record)
    assert not leftovers(out)
    assert group_is_gone(process)
    times = {name: (out / f"packs/tiny/generic-linux-x86_64/{name}/pack.json").stat().st_mtime_ns
             for name in stored}  # fmt: skip
    resumed = edgepack(*argv, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert [record["recipe"] for record in records(resumed.stdout)] == list(SCHEMES)
    for name, before in times.items():
        path = out / f"packs/tiny/generic-linux-x86_64/{name}/pack.json"
        assert path.stat().st_mtime_ns == before


def test_interrupted_while_the_device_measures(tiny: Tiny, tmp_path, loopback_device):
    made = edgepack(
        "pack", tiny.model, "--target", "generic-linux-x86_64", "--recipe", "float32",
        "-o", tmp_path / "out",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    sessions = Path(loopback_device.read_text().partition('workspace = "')[2].partition('"')[0])
    process = start("measure", tmp_path / "out", "--device", loopback_device, "--json")
    deadline = time.monotonic() + 60
    while not list(sessions.glob("job-*/in-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    code, _, err = interrupt(process)
    assert code == 130, err
    assert "Traceback" not in err
    deadline = time.monotonic() + 10
    while list(sessions.glob("job-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(sessions.glob("job-*")) == []
    assert not leftovers(tmp_path / "out")
    assert group_is_gone(process)
