"""A phone over ADB, by the machine's own ``adb``: every call has a deadline."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import IO

from edgepack.errors import LinkError, LinkTimeout
from edgepack.links.adb_server import AdbServer, Seen, chosen, listed, over_tcp, serving
from edgepack.links.link import last_line, printable
from edgepack.links.shell import ShellLink, group_in, killing, marked
from edgepack.spec.device import Device

KILL_SECONDS = 5.0
ENDED = "edgepack-ended"
POLL_SECONDS = 0.1
LOOK_SECONDS = 0.5
UNSETTLED = {"authorizing", "connecting"}


def connect(device: Device) -> ShellLink:
    """A link to the phone. Raises LinkError with a hint for each way in which that fails."""
    address, seconds = device.address, device.options.connect_seconds
    server = serving(address, seconds)
    try:
        if over_tcp(address):
            said = server.ask("connect", address, timeout_s=seconds)
            if address not in {phone.serial for phone in _seen(server, seconds)}:
                raise LinkError(
                    f"nothing that speaks ADB answers at {address}: {printable(said)[-200:]}",
                    "is it on, in this network, with wireless debugging turned on?",
                )
        serial = chosen(address, _seen(server, seconds))
        if "shell_v2" not in server.ask("-s", serial, "features", timeout_s=seconds).split():
            raise LinkError(
                f"{device.id}: its adbd does not tell how a command ended",
                "edgepack needs Android 7 or later",
            )
        return ShellLink(AdbShell(server, serial, device.id), device.id)
    except BaseException:
        server.end()
        raise


def _seen(server: AdbServer, seconds: float) -> list[Seen]:
    """The phones that the server knows, once none of them is still getting ready."""
    deadline = time.monotonic() + seconds
    while True:
        seen = listed(server.ask("devices", timeout_s=seconds))
        if not {phone.state for phone in seen} & UNSETTLED or time.monotonic() > deadline:
            return seen
        time.sleep(POLL_SECONDS)


class AdbShell:
    """One phone; each command is an ``adb shell`` of its own. See Shell."""

    def __init__(self, server: AdbServer, serial: str, name: str) -> None:
        self._server, self._serial, self._name = server, serial, name
        self._given_up = False

    def execute(
        self,
        command: Sequence[str],
        timeout_s: float,
        source: IO[bytes],
        out: IO[bytes],
        err: IO[bytes],
    ) -> int:
        """Run a command; see Shell. Its streams are files here, so that none blocks another."""
        if self._given_up:
            raise LinkTimeout(
                f"{self._name} did not answer before, and was given up",
                "is it on, and plugged in or in the network? then measure again",
            )
        mark, line = marked(command)
        # adb's own code is 1 also where the phone was lost: the phone's word for it comes last.
        line += f'; code=$?; echo "{mark} {ENDED} $code" >&2; exit $code'
        with (
            tempfile.TemporaryFile() as given,
            tempfile.TemporaryFile() as said,
            tempfile.TemporaryFile() as complained,
        ):
            shutil.copyfileobj(source, given)
            given.seek(0)
            argv, environment = self._server.command("-s", self._serial, "shell", "-T", line)
            process = subprocess.Popen(
                argv, stdin=given, stdout=said, stderr=complained, env=environment,
                start_new_session=True,
            )  # fmt: skip
            try:
                process.wait(timeout_s)
            except BaseException as error:
                group = _looked(said, mark, process)
                _end(process)
                self._kill(group)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise LinkTimeout(
                        f"`{command[0]}` did not finish on {self._name} within {timeout_s:g} s",
                        "raise options.call_seconds in the device's TOML if it needs longer",
                    ) from error
                raise
            code, words = _told(complained, mark)
            if code is None or _group(said, mark) is None:
                reason = last_line(words.decode(errors="replace") or "it ended")
                raise LinkError(
                    f"lost the connection to {self._name}: {reason}",
                    "check the cable or the network, and that the phone is on",
                )
            _skip(said, mark)
            shutil.copyfileobj(said, out)
            err.write(words)
        return code

    def close(self) -> None:
        """End the connection, and the server if it is our own."""
        if over_tcp(self._serial) and self._server.own:
            with contextlib.suppress(LinkError):
                self._server.ask("disconnect", self._serial, timeout_s=KILL_SECONDS)
        self._server.end()

    def _kill(self, group: int | None) -> None:
        """End the process group of a command on the phone; give it up where it does not answer."""
        line = ("-s", self._serial, "shell", "-T", "true" if group is None else killing(group))
        try:
            self._server.ask(*line, timeout_s=KILL_SECONDS)
        except LinkError:
            self._given_up = True


def _looked(said: IO[bytes], mark: str, process: subprocess.Popen[bytes]) -> int | None:
    """The process group of what is to be ended; its mark may be on its way for a moment."""
    deadline = time.monotonic() + LOOK_SECONDS
    with contextlib.suppress(LinkError):
        while (group := _group(said, mark)) is None and process.poll() is None:
            if time.monotonic() > deadline:
                return None
            time.sleep(POLL_SECONDS / 5)
        return group
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _group(said: IO[bytes], mark: str) -> int | None:
    """The process group in the line with the mark; None where that has not come."""
    said.seek(0)
    for line in said:
        _, found, number = line.rpartition(f"{mark} ".encode())
        if found and number.endswith(b"\n"):
            return group_in(number)
    return None


def _skip(said: IO[bytes], mark: str) -> None:
    """Leave ``said`` after the line with the mark."""
    said.seek(0)
    for line in said:
        if f"{mark} ".encode() in line:
            return


def _told(complained: IO[bytes], mark: str) -> tuple[int | None, bytes]:
    """(the code that the phone told at the end, what stderr held before that)."""
    complained.seek(0)
    text = complained.read()
    words, found, code = text.rpartition(f"{mark} {ENDED} ".encode())
    number = code.split(b"\n")[0]
    return (int(number), words) if found and number.isdigit() else (None, text)
