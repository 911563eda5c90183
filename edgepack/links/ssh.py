"""A device over SSH: every call has a deadline, and what it started there ends with it."""

from __future__ import annotations

import contextlib
import logging
import select
import threading
import time
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING

from edgepack.errors import LinkError, LinkTimeout
from edgepack.links import ssh_connect
from edgepack.links.shell import ShellLink, group_in, killing, marked
from edgepack.spec.device import Device

if TYPE_CHECKING:
    import paramiko

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 16
POLL_SECONDS = 0.05
KILL_SECONDS = 5.0
GRACE_SECONDS = 1.0
LOOK_SECONDS = 0.5
CLOSE_SECONDS = 5.0
LOST = "check that the device is up, and its network"


def connect(device: Device) -> ShellLink:
    """A link to the device. Raises LinkError with a hint for each way in which that fails."""
    return ShellLink(SshShell(ssh_connect.open_clients(device), device.id), device.id)


class SshShell:
    """One connection; each command runs in a channel of its own. See Shell.

    Parts of paramiko wait for ever where the device, or the network, is frozen: then the
    connection is cut. It is cut too where what a deadline should end cannot be ended.
    """

    def __init__(self, clients: Sequence[paramiko.SSHClient], name: str) -> None:
        self._clients = clients
        self._name = name
        self._given_up = False

    def close(self) -> None:
        """End the connection."""
        for client in self._clients:
            with self._within(CLOSE_SECONDS):
                client.close()

    def execute(
        self,
        command: Sequence[str],
        timeout_s: float,
        source: IO[bytes],
        out: IO[bytes],
        err: IO[bytes],
    ) -> int:
        """Run a command in a channel; see Shell."""
        if self._given_up:
            raise LinkTimeout(
                f"{self._name} did not answer before, and was given up",
                "is it on, and its network up? then measure again",
            )
        deadline = time.monotonic() + timeout_s
        mark, wrapped = marked(command)
        streams = Streams(mark.encode(), source, out, err)
        try:
            with self._within(timeout_s + GRACE_SECONDS):
                code = self._moved(wrapped, deadline, streams)
        except (OSError, EOFError, ssh_connect.ssh_exception()) as error:
            if isinstance(error, TimeoutError) or time.monotonic() > deadline:
                self._end(streams.group)
                raise LinkTimeout(
                    f"`{command[0]}` did not finish on {self._name} within {timeout_s:g} s",
                    "raise options.call_seconds in the device's TOML if it needs longer",
                ) from error
            raise LinkError(
                f"lost the connection to {self._name}: {error or 'it ended'}", LOST
            ) from error
        except KeyboardInterrupt:
            self._end(streams.group)
            raise
        if code < 0:
            raise LinkError(
                f"lost the connection to {self._name} while `{command[0]}` ran",
                "check that the device is up and did not run out of memory",
            )
        if streams.group is None:
            raise LinkError(f"{self._name}: the shell there ran no command", "is it a POSIX sh?")
        return code

    def _moved(self, wrapped: str, deadline: float, streams: Streams) -> int:
        """The code of a command whose streams were moved to their ends; TimeoutError if late."""
        channel = self._channel(max(POLL_SECONDS, deadline - time.monotonic()))
        try:
            channel.settimeout(max(POLL_SECONDS, deadline - time.monotonic()))
            channel.exec_command(wrapped)
            while streams.move(channel):
                if time.monotonic() > deadline:
                    raise TimeoutError
            return channel.exit_status
        except BaseException:
            streams.look(channel)
            raise
        finally:
            channel.close()

    def _channel(self, timeout_s: float) -> paramiko.Channel:
        transport = self._clients[0].get_transport()
        if transport is None or not transport.is_active():
            raise LinkError(f"the connection to {self._name} has ended", LOST)
        try:
            return transport.open_session(timeout=timeout_s)
        except ssh_connect.ssh_exception() as error:
            if "Timeout" in str(error):
                raise TimeoutError from error
            raise

    def _end(self, group: int | None) -> None:
        """End the process group of a command on the device; without an answer, the connection."""
        answered = False
        with (
            contextlib.suppress(LinkError, OSError, EOFError, ssh_connect.ssh_exception()),
            self._within(KILL_SECONDS),
        ):
            channel = self._channel(KILL_SECONDS)
            channel.settimeout(KILL_SECONDS)
            channel.exec_command("true" if group is None else killing(group))
            answered = channel.status_event.wait(KILL_SECONDS)
            channel.close()
        if not answered:
            self._cut()

    @contextlib.contextmanager
    def _within(self, seconds: float) -> Iterator[None]:
        """Cut the connection where the block does not end in time."""
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _cut(self) -> None:
        """End the connection without a word to the device: whoever waits for it gets an error."""
        self._given_up = True
        for client in self._clients:
            transport = client.get_transport()
            if transport is not None:
                transport.close()


class Streams:
    """The three streams of one command, moved together so that none of them blocks another."""

    def __init__(self, mark: bytes, source: IO[bytes], out: IO[bytes], err: IO[bytes]) -> None:
        self.group: int | None = None
        self._mark, self._source, self._out, self._err = mark, source, out, err
        self._head = b""
        self._unsent: bytes | None = b""

    def move(self, channel: paramiko.Channel) -> bool:
        """Move what can be moved, waiting a moment where nothing can; False when all is done."""
        moved = False
        while channel.recv_ready():
            self._receive(channel.recv(CHUNK_BYTES))
            moved = True
        while channel.recv_stderr_ready():
            self._err.write(channel.recv_stderr(CHUNK_BYTES))
            moved = True
        if self._unsent is not None and not channel.exit_status_ready():
            moved = self._send(channel) or moved
        if moved:
            return True
        if channel.status_event.is_set() and (channel.eof_received or channel.closed):
            return bool(channel.recv_ready() or channel.recv_stderr_ready())
        with contextlib.suppress(ValueError):  # the channel closed meanwhile
            select.select([channel.fileno()], [], [], POLL_SECONDS)
        return True

    def look(self, channel: paramiko.Channel) -> None:
        """Wait a moment for the mark of what is to be ended: it may be on its way."""
        deadline = time.monotonic() + LOOK_SECONDS
        while self.group is None and not channel.closed and time.monotonic() < deadline:
            if channel.recv_ready():
                self._receive(channel.recv(CHUNK_BYTES))
            else:
                time.sleep(POLL_SECONDS / 5)

    def _send(self, channel: paramiko.Channel) -> bool:
        if not self._unsent:
            self._unsent = self._source.read(CHUNK_BYTES)
        if not self._unsent:
            self._unsent = None
            channel.shutdown_write()
            return True
        if not channel.send_ready():
            return False
        try:
            self._unsent = self._unsent[channel.send(self._unsent) :]
        except TimeoutError:
            raise
        except OSError:  # the program ended without reading on: its code says enough
            self._unsent = None
        return True

    def _receive(self, content: bytes) -> None:
        """Output after the line with the mark; before it, wait for that line."""
        if self.group is not None:
            self._out.write(content)
            return
        self._head += content
        start = self._head.find(self._mark + b" ")
        end = self._head.find(b"\n", start)
        if start >= 0 and end >= 0:
            self.group = group_in(self._head[start:end])
            self._out.write(self._head[end + 1 :])
            self._head = b""
