"""A device behind a real OpenSSH server: whole measurements, and everything that goes wrong."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepack.errors import LinkError, LinkTimeout, MeasureError
from edgepack.links.link import checked, connect
from edgepack.links.ssh import Streams
from edgepack.measuring.inputs import smooth_inputs
from edgepack.measuring.take import Evaluation, Golden, blank, take
from edgepack.records import Measurement, Quality, TensorSpec, to_dict
from edgepack.runners.runner import session, sessions
from edgepack.runtimes import child
from edgepack.spec.device import Device
from edgepack.spec.target import Protocol
from tests.needs import needs
from tests.sshd import Sshd, free_port, new_key, serving

pytestmark = pytest.mark.e2e

QUICK = Protocol(warmup_runs=2, warmup_seconds=0.0, runs=20, min_seconds=0.0, max_seconds=30.0)
INPUT = TensorSpec(name="image", shape=(1, 32, 32, 3), dtype="int8", scale=1.0, zero_point=-128)
OUTPUT = TensorSpec(name="class", shape=(1, 10), dtype="int8", scale=1 / 256, zero_point=-128)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with serving(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(scope="module")
def model(reference_data: Path) -> Path:
    return reference_data / "models" / "mlperf_ic_int8.tflite"


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with nothing but its standard library."""
    place = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    return str(place / "bin" / "python")


def measured(
    device: Device, model: Path, runner: str | None = None, **extra: Any
) -> tuple[Measurement, Golden]:
    inputs = smooth_inputs([INPUT], 4, seed=1)
    expected = child.infer(model, inputs, "litert-2.3")
    golden = Golden(inputs=inputs, expected=expected, outputs=(OUTPUT,))
    empty = blank(device, artefact_sha256="0" * 64)
    return take(lambda: sessions(device, [model], runner), empty, golden, QUICK, **extra), golden


def left(server: Sshd) -> list[str]:
    """What remains on the device, the cache aside."""
    return [path.name for path in server.sessions.iterdir() if path.name != "cache"]


class Top1:
    """The share of right answers."""

    right = total = 0

    def update(self, outputs: Any, y: Any) -> None:
        self.right += int(np.sum(outputs[0].argmax(axis=1) == y))
        self.total += len(y)

    def compute(self) -> float:
        return self.right / self.total


def test_a_whole_measurement(server: Sshd, model: Path, reference_data: Path) -> None:
    data = np.load(reference_data / "sets" / "cifar10_test_655.npz")
    images = (data["x"].astype(np.int16) - 128).astype(np.int8)[:, None]
    chunks = [([images[i : i + 250]], data["y"][i : i + 250].ravel()) for i in (0, 250, 500)]
    evaluation = Evaluation(chunks=chunks, metric=Top1(), quality=Quality(metric="top1", host=0.8))
    device = server.device(python=sys.executable)
    found, _ = measured(device, model, evaluation=evaluation)
    assert (found.status, found.error) == ("ok", None)
    assert found.latency_us is not None
    assert found.samples_us is not None
    assert found.latency_us.n == len(found.samples_us) >= 20
    assert found.runtime is not None
    assert (found.runtime.name, found.runtime.threads) == ("litert", 1)
    assert (found.runtime.delegate, found.runtime.runner) == ("xnnpack", "litert-python")
    assert found.memory is not None
    assert found.memory.peak_rss_bytes is not None
    assert 0 < (found.memory.model_bytes or 0) < found.memory.peak_rss_bytes
    assert found.agreement is not None
    assert (found.agreement.samples, found.agreement.max_abs_lsb) == (4, 0)
    assert found.agreement.first_divergence is None
    assert found.quality is not None
    assert (found.quality.host, found.quality.samples) == (0.8, 655)
    assert 0.85 < (found.quality.device or 0) < 0.9
    assert {"cpu", "kernel", "python", "before", "after"} <= set(found.device.state)
    assert left(server) == []
    assert to_dict(found)["schema"] == "edgepack.measurement/1"


@pytest.mark.parametrize("runner", ["litert-python", "tflite-runtime-python"])
def test_a_runtime_is_delivered_to_a_bare_python(
    server: Sshd, model: Path, bare_python: str, runner: str
) -> None:
    if runner.startswith("tflite") and sys.version_info >= (3, 12):
        pytest.skip("tflite-runtime has no wheels for Python 3.12 and later")
    lacking = child.available("tflite-runtime-2.14") if runner.startswith("tflite") else None
    needs(lacking is None, f"reach a package index: {lacking}")
    found, golden = measured(server.device(python=bare_python), model, runner)
    assert (found.status, found.error) == ("ok", None)
    assert found.runtime is not None
    assert found.runtime.runner == runner
    assert found.agreement is not None
    assert found.agreement.top1_match == 1.0
    if runner == "litert-python":
        assert found.agreement.max_abs_lsb == 0
    else:  # other kernels: rounding differs by a few steps, but it computes what it does here
        assert (found.agreement.max_abs_lsb or 0) <= 12
        here = child.infer(model, golden.inputs, "tflite-runtime-2.14")
        with session(server.device(python=bare_python), model, runner) as running:
            np.testing.assert_array_equal(running.predict(golden.inputs)[0], here[0])
    assert left(server) == []


def test_a_device_without_python_says_so(server: Sshd, model: Path) -> None:
    device = server.device(python="/no/such/python3")
    found, _ = measured(device, model, "litert-python")
    assert (found.status, found.error.code if found.error else 0) == ("failed", 6)
    assert found.error is not None
    assert "/no/such/python3" in found.error.message
    assert "options.python" in found.error.hint
    assert left(server) == []


def test_a_device_without_python_is_measured_without_it(server: Sshd, model: Path) -> None:
    found, _ = measured(server.device(python="/no/such/python3"), model)
    assert (found.status, found.error) == ("ok", None)
    assert found.runtime is not None
    assert found.runtime.runner == "litert-native"
    assert left(server) == []


def test_a_runtime_that_aborts_is_named_by_its_signal(
    server: Sshd, model: Path, tmp_path: Path
) -> None:
    wrapper = tmp_path / "python3"
    wrapper.write_text(
        '#!/bin/sh\ncase "$1" in *agent.py) ;; *) exec ' + sys.executable + ' "$@";; esac\n'
        "request=$(cat)\n"
        'case "$request" in *probe*) printf "%s" "$request" | exec ' + sys.executable + ' "$@";; '
        'esac\necho "Check failed: kernel" >&2\nkill -ABRT $$\n'
    )
    wrapper.chmod(0o755)
    found, _ = measured(server.device(python=str(wrapper)), model)
    assert (found.status, found.samples_us) == ("failed", None)
    assert found.error is not None
    assert "crashed with SIGABRT: Check failed: kernel" in found.error.message
    assert "cpu" in found.device.state
    assert left(server) == []


def test_a_model_of_an_unknown_operator_is_unsupported(server: Sshd, reference_data: Path) -> None:
    custom = reference_data / "tflite_zoo" / "tflite-micro__person_detect_vela.tflite"
    device = server.device(python=sys.executable)
    inputs = smooth_inputs([INPUT], 1, seed=0)
    golden = Golden(inputs=inputs, expected=None, outputs=(OUTPUT,))
    empty = blank(device, artefact_sha256="0" * 64)
    found = take(lambda: sessions(device, [custom]), empty, golden, QUICK)
    assert found.status == "unsupported"
    assert found.error is not None
    assert "ethos-u" in found.error.message


def test_inputs_that_do_not_suit_are_an_error(server: Sshd, model: Path) -> None:
    with session(server.device(python=sys.executable), model) as running:
        with pytest.raises(
            MeasureError, match=r"wants int8\[1, 32, 32, 3\], found float32\[1, 3\]"
        ):
            running.predict([np.zeros((2, 1, 3), np.float32)])
        assert running.predict([np.zeros((2, 1, 32, 32, 3), np.int8)])[0].shape == (2, 1, 10)


def test_the_server_dies_during_a_measurement(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = replace(QUICK, min_seconds=60.0, max_seconds=60.0)
    with serving(tmp_path / "sshd") as running:
        device = running.device(python=sys.executable)
        inputs = smooth_inputs([INPUT], 1, seed=0)
        golden = Golden(inputs=inputs, expected=None, outputs=(OUTPUT,))
        opened = session(device, model)
        with opened as prepared:
            threading.Timer(1.0, running.kill).start()
            began = time.monotonic()
            with pytest.raises(LinkError, match="lost the connection to loopback"):
                prepared.burst(golden.inputs, endless)
            assert time.monotonic() - began < 30


def test_a_server_that_is_gone_is_unreachable(tmp_path: Path, model: Path) -> None:
    with serving(tmp_path / "sshd") as running:
        device = running.device(python=sys.executable)
    found, _ = measured(device, model)
    assert (found.status, found.error.code if found.error else 0) == ("unreachable", 5)


def test_a_frozen_server_ends_by_the_deadline(tmp_path: Path) -> None:
    with serving(tmp_path / "sshd") as running:
        link = connect(running.device())
        checked(link, ["true"], timeout_s=20)
        for pid in running.children():
            os.kill(pid, signal.SIGSTOP)
        for call in (
            lambda: link.run(["true"], timeout_s=1),
            lambda: link.put(running.key, str(tmp_path / "copy"), timeout_s=1),
            lambda: link.get(str(running.key), tmp_path / "copy", timeout_s=1),
        ):
            began = time.monotonic()
            with pytest.raises(LinkTimeout):
                call()
            assert time.monotonic() - began < 15
        assert not (tmp_path / "copy").exists()
        link.close()


def test_an_interrupt_ends_the_command_on_the_device(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved, pid = Streams.move, tmp_path / "pid"

    def interrupted(self: Streams, channel: Any) -> bool:
        if pid.is_file() and pid.read_text():
            raise KeyboardInterrupt
        return moved(self, channel)

    monkeypatch.setattr(Streams, "move", interrupted)
    link = connect(server.device())
    with pytest.raises(KeyboardInterrupt):
        link.run(["sh", "-c", f"echo $$ > {pid}; exec sleep 300"], timeout_s=30)
    for _ in range(100):
        if not Path(f"/proc/{pid.read_text().strip()}").exists():
            break
        time.sleep(0.05)
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()
    link.close()


def test_a_connection_that_ends_between_calls(tmp_path: Path) -> None:
    with serving(tmp_path / "sshd") as running:
        link = connect(running.device())
        running.kill()
        for call in range(2):
            with pytest.raises(LinkError, match="loopback"):
                link.run(["echo", str(call)], timeout_s=5)
        link.close()


def failure(device: Device) -> LinkError:
    with pytest.raises(LinkError) as caught:
        connect(device)
    return caught.value


def test_an_unknown_host_key_is_refused(server: Sshd, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    error = failure(server.device(known_hosts=str(tmp_path / "empty")))
    assert "is not known (ssh-ed25519 SHA256:" in error.message
    assert f"ssh-keyscan -p {server.port} 127.0.0.1" in error.hint


def test_a_changed_host_key_is_refused(server: Sshd, tmp_path: Path) -> None:
    other = new_key(tmp_path / "other")
    known = tmp_path / "known"
    known.write_text(f"[127.0.0.1]:{server.port} {other.with_suffix('.pub').read_text()}")
    error = failure(server.device(known_hosts=str(known)))
    assert "has CHANGED" in error.message
    assert "ssh-keygen -R" in error.hint


def test_a_missing_known_hosts_file_is_named(server: Sshd, tmp_path: Path) -> None:
    assert "nowhere" in failure(server.device(known_hosts=str(tmp_path / "nowhere"))).message


def test_a_wrong_key_is_refused(server: Sshd, tmp_path: Path) -> None:
    error = failure(server.device(key=str(new_key(tmp_path / "wrong"))))
    assert "refused to let you in" in error.message
    assert "options.key" in error.hint


def test_a_missing_key_file_is_named(server: Sshd, tmp_path: Path) -> None:
    assert "nowhere" in failure(server.device(key=str(tmp_path / "nowhere"))).message


def test_a_closed_port(server: Sshd) -> None:
    device = replace(server.device(), address=f"127.0.0.1:{free_port()}")
    assert "nothing answers at 127.0.0.1:" in failure(device).message


def test_a_name_that_is_none(server: Sshd) -> None:
    device = replace(server.device(), address="no-such-host.invalid")
    assert "no-such-host.invalid cannot be resolved" in failure(device).message


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_a_port_that_does_not_speak_ssh(server: Sshd, greeting: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(greeting)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        device = replace(server.device(), address=f"127.0.0.1:{listener.getsockname()[1]}")
        assert "does not answer as an SSH server does" in failure(device).message
        thread.join(timeout=10)


def test_a_port_that_says_nothing_times_out(server: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        device = replace(server.device(connect_seconds=1.0), address=address)
        began = time.monotonic()
        error = failure(device)
        assert isinstance(error, LinkTimeout)
        assert time.monotonic() - began < 15


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    limited = 'ForceCommand ulimit -f 64; eval "$SSH_ORIGINAL_COMMAND"'
    (tmp_path / "large").write_bytes(bytes(5_000_000))
    with serving(tmp_path / "sshd", limited) as running:
        link = connect(running.device())
        with pytest.raises(LinkError, match="cannot write"):
            link.put(tmp_path / "large", str(tmp_path / "copy"), timeout_s=20)
        link.close()
    assert not list(tmp_path.glob("copy*"))


def test_a_talkative_login_does_not_mix_with_output(tmp_path: Path) -> None:
    noisy = 'ForceCommand printf "Welcome\\n\\nto the board"; eval "$SSH_ORIGINAL_COMMAND"'
    with serving(tmp_path / "sshd", noisy) as running:
        link = connect(running.device())
        assert checked(link, ["printf", "data"], timeout_s=20).stdout == b"data"
        link.close()


def test_a_shell_that_runs_nothing_is_an_error(tmp_path: Path) -> None:
    with serving(tmp_path / "sshd", "ForceCommand echo This account is not available") as running:
        link = connect(running.device())
        with pytest.raises(LinkError, match="ran no command"):
            link.run(["true"], timeout_s=20)
        link.close()


def test_the_users_configuration_and_a_host_on_the_way(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "known_hosts").write_text(server.known_hosts.read_text())
    user = server.device().address.partition("@")[0]
    common = f"HostName 127.0.0.1\n Port {server.port}\n User {user}\n IdentityFile {server.key}\n"
    (tmp_path / ".ssh" / "config").write_text(
        f"Host board\n {common}Host far\n {common} ProxyJump board\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    for alias in ("board", "far"):
        device = replace(server.device(key=None, known_hosts=None), address=alias)
        link = connect(device)
        assert checked(link, ["echo", alias], timeout_s=20).stdout.decode() == alias + "\n"
        link.close()
