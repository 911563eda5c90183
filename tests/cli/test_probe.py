"""``devices probe`` on this machine, over a real SSH server and over a real adb."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepack.cli.app import run
from edgepack.runtimes import building
from tests import adbd, sshd
from tests.command import strict

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Sshd]:
    with sshd.serving(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture
def home(server: sshd.Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a user who has a key and knows the server."""
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/known_hosts").write_text(server.known_hosts.read_text())
    (tmp_path / ".ssh/config").write_text(f"Host 127.0.0.1\n  IdentityFile {server.key}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return tmp_path


def probed(capfd: pytest.CaptureFixture[str], *argv: str) -> dict:
    assert run(["devices", "probe", *argv, "--json"]) == 0
    return strict(capfd.readouterr().out)


def test_this_machine_says_what_it_is(capfd):
    found = probed(capfd, "this-machine")
    assert (found["id"], found["kind"], found["arch"]) == ("this-machine", "linux", building.here())
    facts = found["facts"]
    assert {"cores", "memory_bytes", "bits", "libc", "python", "machine"} <= facts.keys()
    assert facts["workspace"]["state"] == "ok"
    assert facts["packages"]["numpy"]
    assert found["file"] is None
    assert run(["devices", "probe", "this-machine"]) == 0
    told = capfd.readouterr().out
    assert "target: " in told
    assert f"{facts['cores']} cores" in told


def test_an_address_becomes_a_device_file_that_is_sound(server, home, capfd, monkeypatch):
    monkeypatch.setenv("EDGEPACK_SSH_PASSWORD", "open-sesame")
    file = home / "board.toml"
    address = f"{getpass.getuser()}@127.0.0.1:{server.port}"
    found = probed(capfd, address, "-o", str(file))
    assert (found["id"], found["file"]) == ("board", str(file))
    assert found["facts"]["workspace"]["path"] == "/tmp/edgepack"
    assert run(["devices", "check", str(file)]) == 0
    assert "open-sesame" not in file.read_text()
    capfd.readouterr()
    before = file.read_bytes()
    assert run(["devices", "probe", address, "-o", str(file)]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "is there already" in captured.err
    assert file.read_bytes() == before
    assert run(["devices", "probe", str(file), "-o", str(file), "--force"]) == 0


def test_a_device_without_python_is_asked_all_the_same(server, tmp_path, capfd):
    device = server.device()
    (tmp_path / "bare.toml").write_text(
        f'link = "ssh"\ntarget = "rpi4-64"\naddress = "{device.address}"\n'
        f'[options]\npython = "no-such-python"\nkey = "{server.key}"\n'
        f'known_hosts = "{server.known_hosts}"\nworkspace = "{tmp_path}/work"\n'
    )
    found = probed(capfd, str(tmp_path / "bare.toml"))
    assert "python" not in found["facts"]
    assert found["facts"]["cores"] >= 1
    assert "python" in {finding["what"] for finding in found["findings"]}
    assert not (tmp_path / "work").exists()


def test_a_workspace_that_cannot_be_written_is_a_finding(server, tmp_path, capfd):
    device = server.device()
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "odd.toml").write_text(
        f'link = "ssh"\ntarget = "rpi4-64"\naddress = "{device.address}"\n'
        f'[options]\nkey = "{server.key}"\nknown_hosts = "{server.known_hosts}"\n'
        f'workspace = "{tmp_path}/file/$(touch {tmp_path}/oops)"\n'
    )
    found = probed(capfd, str(tmp_path / "odd.toml"))
    assert "workspace" in {finding["what"] for finding in found["findings"]}
    assert not (tmp_path / "oops").exists()


def test_a_phone_is_asked_over_adb(tmp_path, capfd):
    with adbd.serving(tmp_path / "phone") as phone:
        found = probed(capfd, f"adb:127.0.0.1:{phone.port}")
    assert (found["id"], found["link"], found["kind"]) == ("phone", "adb", "android")
    assert found["facts"]["cores"] >= 1


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["nobody@127.0.0.1:9"], 5),
        (["no-such-device"], 2),
        (["pi@"], 2),
        (["pi:secret@board"], 2),
        (["this-machine", "-o", "mine"], 2),
    ],
)
def test_what_cannot_be_probed_has_the_contracts_code(argv, code, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["devices", "probe", *argv]) == code
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "error: " in captured.err
    assert "secret" not in captured.err
    assert list(tmp_path.iterdir()) == []


def test_json_is_one_object_in_the_order_of_the_table(capfd):
    assert run(["devices", "probe", "this-machine", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert list(found) == [
        "id", "link", "address", "emulated", "kind", "arch", "target", "facts", "findings", "file",
    ]  # fmt: skip
