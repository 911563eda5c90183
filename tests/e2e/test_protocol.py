"""The measurement protocol through the command line, on this machine's own link."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgepack.runtimes import building
from tests.command import edgepack, records
from tests.native_program import can_build
from tests.unit.graph import flatbuffers

pytestmark = pytest.mark.e2e
QUICK = """
extends = "generic-linux-x86_64"
name = "Quick"
[measure]
warmup_runs = 2
warmup_seconds = 0
warmup_max_seconds = 0.2
runs = 24
min_seconds = 0
"""
METER = "import sys; print('ready', flush=True); sys.stdin.read(); print(1.5)"


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., list[object]]:
    """Makes a folder with two models, a device and its target; gives the command's arguments."""
    for name, size in (("mine", 2), ("other", 64)):
        (tmp_path / f"{name}.tflite").write_bytes(flatbuffers.relu(size))

    def made(runner: str, *, measure: str = "", options: str = "") -> list[object]:
        if runner == "litert-native":
            can_build(building.here())
        (tmp_path / "quick.toml").write_text(QUICK + measure)
        (tmp_path / "here.toml").write_text(
            'target = "quick"\nlink = "local"\n[options]\n'
            f"workspace = '{tmp_path / 'work'}'\n{options}\n"
        )
        return [
            "measure", tmp_path / "mine.tflite", "--device", tmp_path / "here.toml",
            "--targets", tmp_path, "--runner", runner, "--json",
        ]  # fmt: skip

    return made


def one(done: subprocess.CompletedProcess[str], code: int = 0) -> dict[str, Any]:
    assert done.returncode == code, done.stderr
    (found,) = records(done.stdout)
    return found


@pytest.mark.parametrize("runner", ["litert-native", "litert-python"])
def test_all_that_can_be_asked_for_is_in_one_record(
    bench: Callable[..., list[object]], tmp_path: Path, runner: str
) -> None:
    meter = f'meter = ["{sys.executable}", "-c", "{METER}"]'
    argv = bench(runner, measure="cores = [0]\n", options=meter)
    asked = ("--threads", "2,1", "--sustain", "2s", "--per-op")
    found = one(edgepack(*argv, *asked, "--against", tmp_path / "other.tflite"))
    assert (found["status"], found["error"]) == ("ok", None)
    assert [run["threads"] for run in found["sweep"]] == [1, 2]
    assert found["runtime"]["threads"] == found["protocol"]["threads"]
    assert found["protocol"]["cores"] == [0]
    assert found["against"]["model"] == "other"
    assert len(found["against"]["pairs"]) == 12
    assert found["against"]["verdict"] in ("real", "not real", "can't tell")
    assert found["sustained"]["bins"]
    assert found["energy"]["joules"] == 1.5
    assert found["outliers"]["n"] >= 0
    assert found["latency_us"]["n"] == len(found["samples_us"]) == 24
    if runner == "litert-python":
        assert found["operators"] is None
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["cache"]


def test_what_was_taken_under_load_survives_ctrl_c(
    bench: Callable[..., list[object]], tmp_path: Path
) -> None:
    argv = [sys.executable, "-m", "edgepack", *map(str, bench("litert-python"))]
    process = subprocess.Popen(
        [*argv, "--sustain", "10m"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list((tmp_path / "work").glob("job-*/in-4.npz")):  # the third of the load's bursts
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    found = one(subprocess.CompletedProcess(argv, process.returncode, out, err), 130)
    assert found["status"] == "interrupted"
    assert len(found["sustained"]["bins"]) == 2
    assert found["latency_us"]["n"] == 24
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["cache"]


@pytest.mark.parametrize("runner", ["litert-native", "litert-python"])
def test_cores_that_are_not_there_fail_the_cell(
    bench: Callable[..., list[object]], runner: str
) -> None:
    found = one(edgepack(*bench(runner, measure="cores = [1023]\n")), 6)
    assert found["status"] == "failed"
    assert "cannot run on " in found["error"]["message"]
    assert "[measure]" in found["error"]["hint"]


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--threads", "two", "--threads 'two' is not like 1,2,4"),
        ("--sustain", "3 days", "--sustain '3 days' is no time"),
        ("--against", "no.tflite", "--against no.tflite: no such file"),
    ],
)
def test_what_means_nothing_is_refused_before_any_work(
    bench: Callable[..., list[object]], tmp_path: Path, option: str, value: str, words: str
) -> None:
    done = edgepack(*bench("litert-python"), option, value)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert not (tmp_path / "work").exists()


def test_a_target_with_a_misspelt_or_impossible_protocol(
    bench: Callable[..., list[object]],
) -> None:
    for line, words in (
        ("cores = 'small'\n", "cores"),
        ("cores = [-1]\n", "cores"),
        ("max_start = 50\n", "did you mean 'max_start_c'?"),
        ("max_start_c = 0\n", "max_start_c"),
    ):
        done = edgepack(*bench("litert-python", measure=line))
        assert done.returncode == 2
        assert words in done.stderr
