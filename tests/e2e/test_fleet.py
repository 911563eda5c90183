"""Several real SSH servers measured in one run: order, failures, tags, resuming, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.command import edgepack, records
from tests.sshd import Sshd, serving
from tests.tiny import Tiny

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
QUICK = "[measure]\nruns = 20\nmin_seconds = 0.02\nwarmup_runs = 2\nwarmup_seconds = 0.01\n"
LONG = "[measure]\nruns = 20\nmin_seconds = 55\nwarmup_runs = 2\nwarmup_seconds = 0.01\n"
BOARD = 'name = "Board"\nkind = "linux"\narch = "x86_64"\nruntimes = ["litert-2.3"]\n'
NAMES = ("alpha", "beta", "gamma")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Sshd]]:
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("fleet")
        yield {name: stack.enter_context(serving(folder / name)) for name in NAMES}


@pytest.fixture
def project(servers: dict[str, Sshd], tmp_path: Path) -> Path:
    """A project's folder with a target and a device for each server."""
    for name in ("devices", "targets"):
        (tmp_path / name).mkdir()
    (tmp_path / "targets/quick.toml").write_text(BOARD + QUICK)
    for name, server in servers.items():
        described(tmp_path, name, server)
    return tmp_path


def described(project: Path, name: str, server: Sshd, more: str = "") -> None:
    device = server.device()
    (project / f"devices/{name}.toml").write_text(
        f'link = "ssh"\ntarget = "quick"\naddress = "{device.address}"\n'
        f'tags = ["fleet", "{name}"]\n'
        f'[options]\npython = "{sys.executable}"\nkey = "{server.key}"\n'
        f'known_hosts = "{server.known_hosts}"\nworkspace = "{server.sessions}"\n{more}'
    )


def left(servers: dict[str, Sshd]) -> list[Path]:
    return [path for server in servers.values() for path in server.sessions.glob("job-*")]


def test_all_are_measured_and_one_that_is_lost_stops_no_other(servers, project, reference_data):
    model = reference_data / "models" / "mlperf_kws_int8.tflite"
    (project / "devices/lost.toml").write_text(
        'link = "ssh"\ntarget = "quick"\naddress = "nobody@127.0.0.1:9"\n'
    )
    argv = ("measure", model, "--device", "beta", "--device", "lost", "--device", "alpha")
    done = edgepack(*argv, "--json", cwd=project)
    assert done.returncode == 5, done.stderr
    found = records(done.stdout)
    assert [record["device"]["id"] for record in found] == ["beta", "lost", "alpha"]
    assert [record["status"] for record in found] == ["ok", "unreachable", "ok"]
    assert "beta: done" in done.stderr
    assert "(mlperf_kws_int8: unreachable)" in done.stderr
    assert not left(servers)


def test_a_tag_means_every_device_that_has_it(servers, project, reference_data):
    model = reference_data / "models" / "mlperf_kws_int8.tflite"
    argv = ("measure", model, "--device", "gamma", "--device", "tag:fleet", "--json")
    done = edgepack(*argv, cwd=project)
    assert done.returncode == 0, done.stderr
    found = [record["device"]["id"] for record in records(done.stdout)]
    assert found == ["gamma", "alpha", "beta"]
    done = edgepack("measure", model, "--device", "tag:flete", cwd=project)
    assert done.returncode == 2
    assert "no device has the tag 'flete'" in done.stderr
    assert "fleet" in done.stderr.partition("known tags: ")[2]


def test_a_device_without_python_falls_back_to_the_native_runner(servers, project, reference_data):
    server = servers["alpha"]
    described(project, "bare", server)
    path = project / "devices/bare.toml"
    path.write_text(path.read_text().replace(sys.executable, "no-such-python"))
    model = reference_data / "models" / "mlperf_kws_int8.tflite"
    done = edgepack("measure", model, "--device", "bare", "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    (found,) = records(done.stdout)
    assert found["runtime"]["runner"] == "litert-native"
    path.write_text(path.read_text() + 'runtime = "tflite-runtime"\n')
    done = edgepack("measure", model, "--device", "bare", "--json", cwd=project)
    assert done.returncode == 6
    assert "does not run on bare" in done.stderr


@pytest.mark.tf
def test_ctrl_c_ends_every_device_and_resume_goes_on(servers, project, tiny: Tiny):
    packed = edgepack(
        "pack", tiny.model, "--target", "quick", "--recipe", "float32", "-o", "out", cwd=project
    )
    assert packed.returncode == 0, packed.stderr
    argv = ["measure", "out", "--device", "alpha", "--device", "beta", "--json"]
    assert edgepack(*argv[:4], cwd=project).returncode == 0
    (project / "targets/long.toml").write_text(BOARD + LONG)
    path = project / "devices/beta.toml"
    path.write_text(path.read_text().replace('"quick"', '"long"'))
    path = project / "devices/gamma.toml"
    path.write_text(path.read_text().replace('"quick"', '"long"'))
    process = subprocess.Popen(
        [sys.executable, "-m", "edgepack", *argv, "--device", "gamma", "--resume"],
        cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    running = [servers[name].sessions for name in ("beta", "gamma")]
    while not all(list(place.glob("job-*/in-*")) for place in running):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)
    before = {path: path.stat().st_mtime_ns for path in project.glob("out/measurements/alpha/**/*")}
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    found = {record["device"]["id"]: record["status"] for record in records(out)}
    assert found == {"alpha": "ok", "beta": "interrupted", "gamma": "interrupted"}
    assert list(project.glob("out/measurements/beta/*/*/*/failed.json"))
    assert {path: path.stat().st_mtime_ns for path in before} == before  # resumed: kept as it was
    assert not left(servers)
