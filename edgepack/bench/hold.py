"""Hold a device while it is used: an emulated one is booted when it is down, and ended again."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from edgepack.bench import machine
from edgepack.bench.boards import Board, find
from edgepack.bench.image import USER, made
from edgepack.errors import LinkError
from edgepack.spec.device import Device


@contextmanager
def holding(device: Device) -> Iterator[Callable[[], Device]]:
    """A function that gives the device as it can be reached; a board boots when it is first asked.

    The board ends with the block if it runs for blocks like this alone, and no other process
    holds it. The function raises LinkError, the same each time, where it cannot be booted.
    """
    with ExitStack() as stack:
        found: list[Device | LinkError] = []

        def reached() -> Device:
            if not found:
                try:
                    found.append(stack.enter_context(_held(device)))
                except LinkError as error:
                    found.append(error)
            if isinstance(found[0], LinkError):
                raise found[0]
            return found[0]

        yield reached


@contextmanager
def _held(device: Device) -> Iterator[Device]:
    if not device.board:
        yield device
        return
    board = find(device.board)
    with (made(machine.folder()) / f"{board.id}.users").open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        try:
            running, _ = machine.up(board, mark=passing(board))
            yield at(device, running)
        finally:
            if passing(board).exists() and _last(users.fileno()):
                machine.down(board)
                passing(board).unlink(missing_ok=True)


def _last(users: int) -> bool:
    """Whether no other process holds the board; until ``users`` is closed none can."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def passing(board: Board) -> Path:
    """A file that says that the board ends with the last who holds it."""
    return machine.folder() / f"{board.id}.passing"


def at(device: Device, running: machine.Running) -> Device:
    """The device with the address, key and host key of the board that runs for it."""
    if device.link == "adb":
        return replace(device, address=f"127.0.0.1:{running.adb_port}")
    options = replace(
        device.options,
        key=str(Path(running.image) / "key"),
        known_hosts=str(running.known_hosts),
    )
    return replace(device, address=f"{USER}@127.0.0.1:{running.ssh_port}", options=options)
