"""The ADB server that a link talks to: one of its own, or a foreign one that it leaves as it is.

Phones on USB belong to whichever server found them first, so a server that runs already is used
for them, and neither changed nor ended. A phone over TCP has to be told to a server: that is
always one of our own, on a free port, which ends with the link.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.errors import LinkError, LinkTimeout, SpecError

PORT = "ANDROID_ADB_SERVER_PORT"
ELSEWHERE = {"ADB_SERVER_SOCKET", "ANDROID_ADB_SERVER_ADDRESS", "ANDROID_SERIAL", "ADB_TRACE"}
"""Variables by which adb would turn to another server, or another phone, than it is told to."""
USUAL_PORT = 5037
START_SECONDS = 2.0
HINT = "install adb (Debian: `apt install adb`), or the Python package adbutils, which brings one"


def binary() -> str:
    """The adb of this machine, or the one that adbutils ships. Raises LinkError."""
    if found := shutil.which("adb"):
        return found
    try:
        from adbutils import adb_path
    except ImportError as error:
        raise LinkError("there is no adb on this machine", HINT) from error
    path: str = adb_path()
    return path


@dataclass(frozen=True, kw_only=True)
class AdbServer:
    """A server and the adb that talks to it. ``own``: it ends with the link."""

    adb: str
    port: int
    own: bool

    def command(self, *arguments: str) -> tuple[list[str], dict[str, str]]:
        """(argv, environment) of an adb command by this server."""
        environment = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
        return [self.adb, *arguments], {**environment, PORT: str(self.port), "ADB_MDNS": "0"}

    def ask(self, *arguments: str, timeout_s: float) -> str:
        """What an adb command says, stdout and stderr together; its code says too little.

        Raises LinkTimeout, LinkError where adb itself cannot run.
        """
        argv, environment = self.command(*arguments)
        try:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                env=environment, timeout=timeout_s, check=False, start_new_session=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise LinkTimeout(f"adb {arguments[0]}: no answer within {timeout_s:g} s") from error
        except OSError as error:
            raise LinkError(f"cannot run {self.adb}: {error.strerror}", HINT) from error
        return done.stdout.decode(errors="replace").strip()

    def end(self) -> None:
        """End the server, if it is our own."""
        if self.own:
            with contextlib.suppress(LinkError):
                self.ask("kill-server", timeout_s=10)


def serving(address: str, timeout_s: float) -> AdbServer:
    """A server for phones on USB or, where ``address`` is ``host:port``, for that one.

    Raises LinkError where there is no adb, or a foreign server is of another version: a client
    that does not match would end it.
    """
    adb = binary()
    usual = usual_port()
    if not over_tcp(address) and (version := _version(usual)) is not None:
        mine = _own_version(adb, timeout_s)
        if version != mine:
            raise LinkError(
                f"the ADB server on port {usual} is of version {version}, and {adb} of {mine}",
                "put the adb that started it first in PATH, or end it: `adb kill-server`",
            )
        return AdbServer(adb=adb, port=usual, own=False)
    server = AdbServer(adb=adb, port=free_port(), own=True)
    try:
        said = server.ask("start-server", timeout_s=timeout_s)
        if _version(server.port) is None:
            raise LinkError(f"adb cannot start its server: {said[-200:]}", HINT)
    except BaseException:
        _end_when_it_listens(server)
        raise
    return server


def _end_when_it_listens(server: AdbServer) -> None:
    """End a server that may just be starting: adb leaves it to itself before it listens."""
    deadline = time.monotonic() + START_SECONDS
    while _version(server.port) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    server.end()


def usual_port() -> int:
    """The port at which this machine's ADB server is. Raises SpecError where it is none."""
    chosen = os.environ.get(PORT, str(USUAL_PORT))
    if not chosen.isdecimal() or not 0 < int(chosen) < 65536:
        raise SpecError(f"{PORT} is '{chosen}', which is no port", f"unset it: it is {USUAL_PORT}")
    return int(chosen)


def over_tcp(address: str) -> bool:
    """Whether an address is ``host:port`` and not a serial number."""
    return bool(re.fullmatch(r"[^\s:-][^\s:]*:\d{1,5}|\[[0-9A-Fa-f:]+\]:\d{1,5}", address))


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A phone that a server knows, and how: ``device``, ``unauthorized``, ``offline``, …"""

    serial: str
    state: str


def listed(said: str) -> list[Seen]:
    """The phones in what ``adb devices`` says; its other lines are the server's own."""
    lines = said.partition("List of devices attached")[2].splitlines()
    pairs = [line.split("\t", 1) for line in lines if "\t" in line]
    return [Seen(serial=serial, state=state.strip()) for serial, state in pairs]


def chosen(address: str, seen: Sequence[Seen]) -> str:
    """The serial of the phone meant by ``address``; empty is the only one.

    Raises LinkError for what is not there, not authorized, not ready, or one of several.
    """
    if address:
        seen = [phone for phone in seen if phone.serial == address]
    if not seen:
        raise LinkError(
            f"adb sees no phone{f' {address}' if address else ''}",
            "plug it in, unlock it, and turn on USB debugging in its developer options",
        )
    if len(seen) > 1:
        serials = ", ".join(phone.serial for phone in seen)
        raise LinkError(
            f"adb sees {len(seen)} phones: {serials}",
            "say which one in the device's TOML: address = its serial number",
        )
    phone = seen[0]
    if phone.state == "unauthorized":
        raise LinkError(
            f"the phone {phone.serial} has not authorized this machine",
            "unlock it and accept 'Allow USB debugging', then try again",
        )
    if phone.state != "device":
        raise LinkError(
            f"the phone {phone.serial} is '{phone.state}'",
            "unplug it and plug it in again; where that does not help, restart it",
        )
    return phone.serial


def _version(port: int) -> int | None:
    """The version of the server on a loopback port, asked without adb; None where there is none."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as server:
            server.sendall(b"000chost:version")
            answer = b""
            while len(answer) < 12 and (part := server.recv(64)):
                answer += part
        return int(answer[8:12], 16) if answer[:4] == b"OKAY" else None
    except (OSError, ValueError):
        return None


def _own_version(adb: str, timeout_s: float) -> int:
    """The protocol's version that an adb speaks: the last number of 1.0.41."""
    said = AdbServer(adb=adb, port=USUAL_PORT, own=False).ask("version", timeout_s=timeout_s)
    found = re.search(r"version \d+\.\d+\.(\d+)", said)
    if found is None:
        raise LinkError(f"{adb} does not tell its version: {said[:200]}", HINT)
    return int(found[1])


def free_port() -> int:
    """A port that nobody listens on, outside those where adb looks for emulators."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if not 5555 <= port <= 5585:
            return port
