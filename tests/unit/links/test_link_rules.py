"""What the links' shared parts and the local link do where the contract does not reach."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edgepack.errors import LinkError
from edgepack.links import local
from edgepack.links.link import Completed, last_line, workspace
from edgepack.links.shell import RECEIVE, ShellLink, killing
from edgepack.links.ssh import SshShell, Streams
from edgepack.spec.device import Device


class Forgetful:
    """A link that is lost before the workspace is removed."""

    def __init__(self) -> None:
        self.commands: list[Any] = []

    def run(self, argv: Any, **_: Any) -> Completed:
        self.commands.append(argv)
        if argv[0] == "rm":
            raise LinkError("lost")
        return Completed(returncode=0, stdout=b"", stderr=b"")


def test_a_workspace_that_cannot_be_removed_is_told(caplog: pytest.LogCaptureFixture) -> None:
    link = Forgetful()
    with caplog.at_level(logging.WARNING), workspace(link, "/place/", timeout_s=1) as place:  # type: ignore[arg-type]
        assert place.startswith("/place/job-")
    assert f"{place} may remain on the device: lost" in caplog.text
    assert link.commands[-1] == ["rm", "-rf", "--", place]


def test_the_last_line_that_says_something() -> None:
    assert last_line("a\n b \n\n") == "b"
    assert last_line(" \n") == "no message"


def test_a_program_that_the_system_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise OSError(7, "Argument list too long")

    monkeypatch.setattr(subprocess, "Popen", refused)
    with pytest.raises(LinkError, match="cannot run true: Argument list too long"):
        local.LocalLink().run(["true"], timeout_s=1)


def test_a_copy_without_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    (tmp_path / "source").write_bytes(b"whole")
    monkeypatch.setattr(local.shutil, "copyfile", full)
    link = local.connect(Device(id="d", target="t", link="local"))
    with pytest.raises(LinkError, match="No space left on device"):
        link.put(tmp_path / "source", str(tmp_path / "copy"), timeout_s=1)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


class Wire:
    """A channel of paramiko, scripted: what arrives, and what may be sent."""

    def __init__(self, arrives: list[bytes], accepts: int = 4) -> None:
        self.arrives, self.accepts, self.sent = arrives, accepts, b""
        self.eof_sent = self.closed = self.eof_received = False
        self.status_event = type("Event", (), {"is_set": lambda _: not self.arrives})()

    def recv_ready(self) -> bool:
        return bool(self.arrives)

    def recv(self, size: int) -> bytes:
        return self.arrives.pop(0)

    def recv_stderr_ready(self) -> bool:
        return False

    def exit_status_ready(self) -> bool:
        return False

    def send_ready(self) -> bool:
        return True

    def send(self, content: bytes) -> int:
        if self.accepts == 0:
            raise OSError("Socket is closed")
        self.sent += content[: self.accepts]
        return min(len(content), self.accepts)

    def shutdown_write(self) -> None:
        self.eof_sent = self.closed = True


@pytest.mark.parametrize("cut", range(1, 12))
def test_the_mark_may_arrive_in_pieces_after_noise(cut: int) -> None:
    import io

    whole = b"Welcome\nMARK 77\nMARK 88\nrest"
    pieces = [whole[i : i + cut] for i in range(0, len(whole), cut)]
    out = io.BytesIO()
    streams = Streams(b"MARK", io.BytesIO(b"0123456789"), out, io.BytesIO())
    wire = Wire(pieces)
    while streams.move(wire):  # type: ignore[arg-type]
        pass
    assert (streams.group, out.getvalue()) == (77, b"MARK 88\nrest")
    assert (wire.sent, wire.eof_sent) == (b"0123456789", True)


def test_a_program_that_closed_its_input_ends_the_sending() -> None:
    import io

    wire = Wire([b"MARK 7\n"], accepts=0)
    streams = Streams(b"MARK", io.BytesIO(b"data"), io.BytesIO(), io.BytesIO())
    assert streams.move(wire)  # type: ignore[arg-type]
    wire.closed = True
    assert not streams.move(wire)  # type: ignore[arg-type]


def test_a_client_without_transport_is_a_lost_connection() -> None:
    class Client:
        def get_transport(self) -> None:
            return None

    link = ShellLink(SshShell([Client()], "board"), "board")  # type: ignore[list-item]
    with pytest.raises(LinkError, match="the connection to board has ended"):
        link.run(["true"], timeout_s=1)


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_group_ends_whatever_the_shell_is(shell: str) -> None:
    argv = ["sh", "-c", "sleep 300 & echo; wait"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as group:
        assert group.stdout is not None
        group.stdout.readline()
        subprocess.run([shell, "-c", killing(group.pid)], check=True)
        assert group.wait(10) == -9
        assert group.stdout.read() == b""  # its child has let go of it too


@pytest.mark.parametrize(("sent", "promised"), [(b"whole", 5), (b"who", 5), (b"whole!", 5)])
def test_a_transfer_of_another_size_than_promised_leaves_nothing(
    tmp_path: Path, sent: bytes, promised: int
) -> None:
    """The very script that devices run: a cut connection may look like the end of the file."""
    part, remote = tmp_path / "file.part", tmp_path / "file"
    argv = ["sh", "-c", RECEIVE, "sh", str(part), str(remote), str(promised)]
    done = subprocess.run(argv, input=sent, check=False)
    assert (done.returncode == 0) == (len(sent) == promised) == remote.exists()
    assert not part.exists()
