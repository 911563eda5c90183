"""The real adb against a phone's daemon on loopback: what goes wrong, and what is said of it."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from edgepack.errors import LinkError, LinkTimeout
from edgepack.links import adb_server
from edgepack.links.link import connect
from edgepack.spec.device import Device
from tests.adbd import Phone, servers, serving

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    with serving(tmp_path_factory.mktemp("phone")) as running:
        yield running


def failure(device: Device) -> LinkError:
    """How connecting fails; whatever was started for it has ended."""
    before = servers()
    with pytest.raises(LinkError) as caught:
        connect(device)
    assert servers() == before
    assert caught.value.hint
    return caught.value


def test_a_link_leaves_no_server(phone):
    before = servers()
    link = connect(phone.device())
    assert len(servers()) == len(before) + 1
    link.close()
    assert servers() == before


def test_nothing_answers():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        device = Device(id="p", target="android-arm64", link="adb", address=f"127.0.0.1:{port}")
        assert "nothing that speaks ADB answers" in failure(device).message


def test_a_phone_that_has_not_authorized_this_machine(tmp_path):
    with serving(tmp_path, "unauthorized") as running:
        error = failure(running.device())
    assert "has not authorized this machine" in error.message
    assert "accept" in error.hint


def test_a_phone_that_is_too_old(tmp_path):
    with serving(tmp_path, "no-shell-v2") as running:
        assert "Android 7" in failure(running.device()).hint


def test_a_connection_that_is_cut_while_a_file_travels(tmp_path):
    (tmp_path / "file").write_bytes(bytes(3_000_000))
    with serving(tmp_path / "phone", "drop:1000000") as running:
        link = connect(running.device())
        with pytest.raises(LinkError, match="lost the connection to phone"):
            link.put(tmp_path / "file", str(tmp_path / "phone/copy"), timeout_s=20)
        link.close()
    assert not (tmp_path / "phone/copy").exists()


def test_a_frozen_phone_is_noticed_at_the_deadline(tmp_path):
    (tmp_path / "file").write_bytes(bytes(8_000_000))
    with serving(tmp_path / "phone", "frozen:1000000") as running:
        link = connect(running.device())
        began = time.monotonic()
        with pytest.raises(LinkTimeout, match="within 2 s"):
            link.put(tmp_path / "file", str(tmp_path / "phone/copy"), timeout_s=2)
        assert time.monotonic() - began < 15
        link.close()


def test_a_phone_that_is_unplugged_between_calls(tmp_path):
    with serving(tmp_path) as running:
        link = connect(running.device())
        assert link.run(["true"], timeout_s=10).returncode == 0
    with pytest.raises(LinkError, match="lost the connection to phone"):
        link.run(["true"], timeout_s=10)
    link.close()


@pytest.fixture
def foreign(phone, monkeypatch, tmp_path) -> Iterator[int]:
    """Somebody's ADB server with our phone in it, at the usual place for this test."""
    port = adb_server.free_port()
    environment = {**os.environ, adb_server.PORT: str(port), "ADB_MDNS": "0"}
    adb = adb_server.binary()
    subprocess.run([adb, "start-server"], env=environment, check=True, capture_output=True)
    address = f"127.0.0.1:{phone.port}"
    subprocess.run([adb, "connect", address], env=environment, check=True, capture_output=True)
    monkeypatch.setenv(adb_server.PORT, str(port))
    yield port
    subprocess.run([adb, "kill-server"], env=environment, check=True, capture_output=True)


def test_a_foreign_server_is_used_and_stays_as_it_is(foreign, phone):
    before = servers()
    link = connect(Device(id="only", target="android-arm64", link="adb"))
    assert link.run(["echo", "here"], timeout_s=10).stdout == b"here\n"
    link.close()
    assert servers() == before
    said = subprocess.run(
        [adb_server.binary(), "devices"], capture_output=True, text=True, check=True
    ).stdout
    assert f"127.0.0.1:{phone.port}\tdevice" in said


def test_several_phones_need_an_address(foreign, phone, tmp_path):
    with serving(tmp_path) as second:
        argv = [adb_server.binary(), "connect", f"127.0.0.1:{second.port}"]
        subprocess.run(argv, check=True, capture_output=True)
        error = failure(Device(id="one", target="android-arm64", link="adb"))
    assert "adb sees 2 phones" in error.message
    assert str(phone.port) in error.message
    assert "serial" in error.hint


def test_a_foreign_server_of_another_version_is_left_alone(monkeypatch, tmp_path):
    """A client of another version would end it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv(adb_server.PORT, str(server.getsockname()[1]))

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(64)
                connection.sendall(b"OKAY00040007")

        import threading

        thread = threading.Thread(target=answer)
        thread.start()
        error = failure(Device(id="one", target="android-arm64", link="adb"))
        thread.join()
    assert "version 7" in error.message


def test_no_phone_and_no_adb(monkeypatch, tmp_path):
    monkeypatch.setenv(adb_server.PORT, str(adb_server.free_port()))
    assert "adb sees no phone" in failure(Device(id="p", target="t", link="adb")).message
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "adbutils", None)
    error = failure(Device(id="p", target="t", link="adb"))
    assert "no adb" in error.message
    assert "apt install adb" in error.hint
