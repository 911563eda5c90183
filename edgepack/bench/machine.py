"""Boot a board, see how it is, and end it. A process is known by its id and when it started."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from platformdirs import user_state_path

from edgepack.bench.boards import Board
from edgepack.bench.image import Image, image, locked, made
from edgepack.errors import LinkError
from edgepack.events import step
from edgepack.files import write_text
from edgepack.links.adb_server import free_port

BOOT_SECONDS = 180.0
ANSWER_SECONDS = 5.0
POLL_SECONDS = 0.2
END_SECONDS = 10.0
PORT_TRIES = 3
TAKEN = "Could not set up host forwarding"


class PortTakenError(LinkError):
    """Between choosing a free port and listening on it another program took it."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """A board that runs: its process, and the ports of this machine at which it answers.

    ``adb_port`` is None where no adbd runs there. ``started`` is in clock ticks since boot.
    ``ready`` is false until it answers.
    """

    board: str
    pid: int
    started: int
    ssh_port: int
    adb_port: int | None
    image: str
    ready: bool = True

    @property
    def known_hosts(self) -> Path:
        """A file with the board's key at its port."""
        return folder() / f"{self.board}.known_hosts"


def folder() -> Path:
    """Where is written what runs."""
    return user_state_path("edgepack") / "bench"


def status(board: Board) -> Running | None:
    """The board, if it runs."""
    found = _living(board)
    return found if found is not None and found.ready else None


def _living(board: Board) -> Running | None:
    """The board, if its process runs, ready or not."""
    try:
        found = Running(**json.loads(_record(board).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return found if _started(found.pid) == found.started else None


def up(board: Board, *, mark: Path | None = None) -> tuple[Running, bool]:
    """(the board, running and answering; whether it was booted just now).

    ``mark`` is a file that is made before it is booted, if it is. Raises LinkError where
    something is missing here or it does not come up in time.
    """
    with locked(made(folder()) / f"{board.id}.lock"):
        if (running := status(board)) is not None:
            return running, False
        if shutil.which(board.emulator) is None:
            raise LinkError(
                f"the board {board.id} needs {board.emulator}, which is not on this machine",
                "apt install qemu-system-arm",
            )
        found = image(board)
        _clear(board)
        if mark is not None:
            mark.touch()
        with step(f"booting {board.id}"):
            return _booted(board, found), True


def down(board: Board) -> bool:
    """End the board; False where it did not run."""
    with locked(made(folder()) / f"{board.id}.lock"):
        return _clear(board)


def _clear(board: Board) -> bool:
    """End what runs for the board, also what was killed while it booted it, and forget it."""
    running = _living(board)
    if running is not None:
        _end(running.pid, running.started)
    for path in (_record(board), folder() / f"{board.id}.known_hosts"):
        path.unlink(missing_ok=True)
    return running is not None


def command(board: Board, found: Image, ssh_port: int, adb_port: int | None) -> list[str]:
    """The emulator's command line: it listens on loopback, and the board reaches nothing."""
    forwards = f"hostfwd=tcp:127.0.0.1:{ssh_port}-:22"
    if adb_port is not None:
        forwards += f",hostfwd=tcp:127.0.0.1:{adb_port}-:5555"
    clock = ["-accel", "tcg,thread=multi"]
    if board.counted:
        clock = ["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"]
    return [
        board.emulator, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-machine", board.machine, "-cpu", board.cpu, "-smp", str(board.cores),
        "-m", str(board.memory_mib), *clock,
        "-kernel", str(found.kernel), "-initrd", str(found.initrd),
        "-append", "console=ttyAMA0 rdinit=/init panic=-1 quiet",
        "-serial", "stdio",
        "-netdev", f"user,id=net,restrict=on,{forwards}",
        "-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci",
    ]  # fmt: skip


def _booted(board: Board, found: Image) -> Running:
    """Boot the board, at other ports where somebody was faster to take one."""
    for _ in range(PORT_TRIES - 1):
        with contextlib.suppress(PortTakenError):
            return _boot(board, found)
    return _boot(board, found)


def _boot(board: Board, found: Image) -> Running:
    ssh_port = free_port()
    adb_port = free_port() if board.adb else None
    console = folder() / f"{board.id}.log"
    with console.open("wb") as log:
        process = subprocess.Popen(
            command(board, found, ssh_port, adb_port), stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        running = Running(
            board=board.id,
            pid=process.pid,
            started=_started(process.pid) or 0,
            ssh_port=ssh_port,
            adb_port=adb_port,
            image=str(found.folder),
            ready=False,
        )
        # Written before it answers: whoever is killed meanwhile leaves a board that can be found.
        write_text(_record(board), json.dumps(asdict(running)))
        _await(board, process, ssh_port, adb_port, console)
        write_text(running.known_hosts, f"[127.0.0.1]:{ssh_port} {found.host_key()}\n")
        running = replace(running, ready=True)
        write_text(_record(board), json.dumps(asdict(running)))
    except BaseException:
        process.kill()
        process.wait()
        _record(board).unlink(missing_ok=True)
        raise
    return running


def _await(
    board: Board,
    process: subprocess.Popen[bytes],
    ssh_port: int,
    adb_port: int | None,
    console: Path,
) -> None:
    """Wait until everything on the board answers. Raises LinkError where it does not."""
    deadline = time.monotonic() + BOOT_SECONDS
    while True:
        ready = answers(ssh_port, b"", b"SSH-2.0")
        if ready and (adb_port is None or answers(adb_port, hello(), b"CNXN")):
            return
        code = process.poll()
        if code is not None or time.monotonic() > deadline:
            said = console.read_text(errors="replace").strip().splitlines() or ["nothing"]
            if code is not None and TAKEN in said[-1]:
                raise PortTakenError(f"the board {board.id} found its ports taken", "try again")
            what = f"ended with code {code}" if code is not None else "does not answer"
            raise LinkError(
                f"the board {board.id} {what}; its console says: {said[-1][:200]}",
                f"the whole console is in {console}",
            )
        time.sleep(POLL_SECONDS)


def answers(port: int, question: bytes, answer: bytes) -> bool:
    """Whether what listens at a port of this machine begins its answer so.

    QEMU takes a connection before anybody on the board does: a connection alone proves nothing.
    """
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as there:
        there.settimeout(ANSWER_SECONDS)
        there.sendall(question)
        said = b""
        while len(said) < len(answer) and (part := there.recv(64)):
            said += part
        return said.startswith(answer)
    return False


def hello() -> bytes:
    """The message that begins a conversation with adbd: CNXN, version 1, 256 KiB a message."""
    words = b"host::features=shell_v2\0"
    name = int.from_bytes(b"CNXN", "little")
    head = (name, 0x01000000, 256 * 1024, len(words), sum(words), name ^ 0xFFFFFFFF)
    return struct.pack("<6I", *head) + words


def _record(board: Board) -> Path:
    return folder() / f"{board.id}.json"


def _started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def _end(pid: int, started: int) -> None:
    deadline = time.monotonic() + END_SECONDS
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        while _started(pid) == started:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            time.sleep(POLL_SECONDS / 4)
