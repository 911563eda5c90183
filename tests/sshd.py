"""A real OpenSSH server on loopback, with keys and a configuration of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgepack.spec.device import Device, DeviceOptions
from tests.needs import needs

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


@dataclass(frozen=True, kw_only=True)
class Sshd:
    """A running server; ``key`` is let in, ``known_hosts`` vouches for it."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path
    key: Path
    known_hosts: Path
    sessions: Path

    def device(self, **options: object) -> Device:
        """The server as a device of edgepack."""
        chosen = {
            "key": str(self.key),
            "known_hosts": str(self.known_hosts),
            "workspace": str(self.sessions),
            "connect_seconds": 10.0,
            **options,
        }
        return Device(
            id="loopback",
            target="generic-linux-x86_64",
            link="ssh",
            address=f"{getpass.getuser()}@127.0.0.1:{self.port}",
            options=DeviceOptions(**chosen),
        )

    def children(self) -> list[int]:
        """The process ids of everything below the server, deepest last."""
        found, queue = [], [self.process.pid]
        while queue:
            parent = queue.pop()
            tasks = Path(f"/proc/{parent}/task/{parent}/children")
            with contextlib.suppress(OSError):
                below = [int(pid) for pid in tasks.read_text().split()]
                found += below
                queue += below
        return found

    def kill(self) -> None:
        """End the server and its sessions at once, as a power cut would."""
        for pid in [*self.children(), self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def new_key(path: Path) -> Path:
    """A private key without a passphrase."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


def free_port() -> int:
    """A port that nobody listens to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(folder: Path, *extra: str) -> Iterator[Sshd]:
    """A server in ``folder`` for the length of the block; ``extra`` lines of configuration."""
    there = Path(SSHD).is_file() and shutil.which("ssh-keygen") is not None
    needs(there, "install the package openssh-server")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    host, key, port = new_key(folder / "host"), new_key(folder / "key"), free_port()
    authorized = folder / "authorized_keys"
    authorized.write_text((folder / "key.pub").read_text())
    home = folder / "home"
    home.mkdir()
    known = folder / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    lines = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {host}",
        f"AuthorizedKeysFile {authorized}",
        f"PidFile {folder / 'pid'}",
        "UsePAM no",
        "StrictModes no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin yes",
        "MaxStartups 100",
        f"SetEnv HOME={home}",  # so that no shell reads the start-up files of who runs the tests
        *extra,
    ]
    (folder / "config").write_text("\n".join(lines) + "\n")
    if os.geteuid() == 0:  # the unprivileged half of the server wants this folder
        Path("/run/sshd").mkdir(mode=0o755, parents=True, exist_ok=True)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(folder / "config")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    server = Sshd(
        process=process,
        port=port,
        folder=folder,
        key=key,
        known_hosts=known,
        sessions=folder / "sessions",
    )
    try:
        _await_banner(server)
        yield server
    finally:
        server.kill()


def _await_banner(server: Sshd) -> None:
    """Wait until the server speaks; fail with its log where it ended instead."""
    for _ in range(200):
        if server.process.poll() is not None:
            break
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", server.port), timeout=1) as connection,
        ):
            if connection.recv(8).startswith(b"SSH-2.0"):
                return
        time.sleep(0.05)
    raise RuntimeError("sshd did not start: " + (server.folder / "log").read_text())
