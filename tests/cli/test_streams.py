"""Output that is closed, or goes to where there is no room."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.graph.flatbuffers import convolution

FULL = Path("/dev/full")
LIST = [sys.executable, "-m", "edgepack", "targets", "list", "--json"]
INSPECT = [sys.executable, "-m", "edgepack", "inspect", "--json"]


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("command", ["list", "inspect"])
def test_stdout_without_room_is_one_error(command, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(convolution())
    argv = LIST if command == "list" else [*INSPECT, str(path)]
    with FULL.open("w") as full:
        found = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert found.returncode == 2
    assert found.stderr.splitlines()[0].startswith("error: cannot write")
    assert "Exception ignored" not in found.stderr


@pytest.mark.parametrize("closed", [1, 2])
def test_a_closed_stream_is_no_error(closed, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(convolution())
    argv = [*INSPECT, str(path)]
    found = subprocess.run(
        argv, capture_output=True, text=True, check=False, preexec_fn=lambda: os.close(closed)
    )
    assert found.returncode == 0
    assert found.stderr == ""


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_name_that_is_no_utf_8_is_told_as_it_can_be(form, tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff.tflite"
    with open(path, "wb") as file:  # noqa: PTH123 - no Path holds bytes
        file.write(convolution())
    argv = [sys.executable, "-m", "edgepack", "inspect", path]
    argv += ["--json"] if form == "json" else []
    found = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")
    if form == "json":
        assert os.fsencode(json.loads(found.stdout)["file"]).endswith(b"\xff.tflite")
    else:
        assert r"\udcff.tflite" in found.stdout
