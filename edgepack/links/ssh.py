"""A device over SSH: every call has a deadline, and what it started there ends with it."""

from __future__ import annotations

import contextlib
import logging
import select
import time
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

from edgepack.errors import LinkError, LinkTimeout
from edgepack.links import ssh_connect
from edgepack.links.shell import ShellLink, killing, marked
from edgepack.spec.device import Device

if TYPE_CHECKING:
    import paramiko

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 16
POLL_SECONDS = 0.05
KILL_SECONDS = 5.0


def connect(device: Device) -> ShellLink:
    """A link to the device. Raises LinkError with a hint for each way in which that fails."""
    return ShellLink(SshShell(ssh_connect.open_clients(device), device.id), device.id)


class SshShell:
    """One connection; each command runs in a channel of its own. See Shell."""

    def __init__(self, clients: Sequence[paramiko.SSHClient], name: str) -> None:
        self._clients = clients
        self._name = name

    def close(self) -> None:
        """End the connection."""
        for client in self._clients:
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
        deadline = time.monotonic() + timeout_s
        mark, wrapped = marked(command)
        channel, streams = None, Streams(mark.encode(), source, out, err)
        try:
            channel = self._channel(timeout_s)
            channel.settimeout(max(POLL_SECONDS, deadline - time.monotonic()))
            channel.exec_command(wrapped)
            while streams.move(channel):
                if time.monotonic() > deadline:
                    raise TimeoutError
        except TimeoutError as error:
            self._kill(streams.group)
            raise LinkTimeout(
                f"`{command[0]}` did not finish on {self._name} within {timeout_s:g} s",
                "raise options.call_seconds in the device's TOML if it needs longer",
            ) from error
        except (OSError, EOFError, ssh_connect.ssh_exception()) as error:
            raise LinkError(
                f"lost the connection to {self._name}: {error or 'it ended'}"
            ) from error
        except KeyboardInterrupt:
            self._kill(streams.group)
            raise
        finally:
            if channel is not None:
                channel.close()
        code = channel.exit_status
        if code < 0:
            raise LinkError(
                f"lost the connection to {self._name} while `{command[0]}` ran",
                "check that the device is up and did not run out of memory",
            )
        if streams.group is None:
            raise LinkError(f"{self._name}: the shell there ran no command", "is it a POSIX sh?")
        return code

    def _channel(self, timeout_s: float) -> paramiko.Channel:
        transport = self._clients[0].get_transport()
        if transport is None or not transport.is_active():
            raise LinkError(f"the connection to {self._name} has ended")
        try:
            return transport.open_session(timeout=timeout_s)
        except ssh_connect.ssh_exception() as error:
            if "Timeout" in str(error):
                raise TimeoutError from error
            raise

    def _kill(self, group: int | None) -> None:
        """End the process group of a command on the device, if it can still be reached."""
        if group is None:
            return
        with contextlib.suppress(LinkError, OSError, EOFError, ssh_connect.ssh_exception()):
            channel = self._channel(KILL_SECONDS)
            channel.settimeout(KILL_SECONDS)
            channel.exec_command(killing(group))
            channel.status_event.wait(KILL_SECONDS)
            channel.close()


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
            self.group = int(self._head[start:end].split()[1])
            self._out.write(self._head[end + 1 :])
            self._head = b""
