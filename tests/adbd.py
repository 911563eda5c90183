"""The device end of ADB on loopback, for the real ``adb``: shells of this machine, and faults.

``python -m tests.adbd FOLDER [FAULT]`` prints its port and serves until it is ended. Faults:
``unauthorized`` (no key is ever accepted), ``no-shell-v2`` (as before Android 7), ``drop:N`` (the
connection is cut after N bytes of payload), ``frozen:N`` (nothing is read after N bytes).

Protocol: packages/modules/adb/protocol.txt and shell_protocol.h of the Android Open Source Project.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgepack.spec.device import Device, DeviceOptions
from tests.needs import needs

HEADER = struct.Struct("<4s5I")
MAXIMUM = 256 * 1024
VERSION = 0x01000001
SIGNATURE = 2
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)


class Stream:
    """One service that the host opened: packets in, acknowledged packets out."""

    def __init__(self, connection: Connection, local: int, remote: int) -> None:
        self.connection, self.local, self.remote = connection, local, remote
        self.received: asyncio.Queue[bytes] = asyncio.Queue()
        self.acknowledged = asyncio.Semaphore(0)
        self.rest, self.open = b"", True

    async def write(self, content: bytes) -> None:
        for start in range(0, len(content), self.connection.maximum):
            if not self.open:
                raise ConnectionError
            part = content[start : start + self.connection.maximum]
            await self.connection.send(b"WRTE", self.local, self.remote, part)
            await self.acknowledged.acquire()

    async def read(self, size: int) -> bytes:
        while len(self.rest) < size:
            if not (found := await self.received.get()):
                raise EOFError
            self.rest += found
        head, self.rest = self.rest[:size], self.rest[size:]
        return head

    def end(self) -> None:
        self.open = False
        self.received.put_nowait(b"")
        self.acknowledged.release()


class Connection:
    """One host that is connected."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, folder: Path, fault: str
    ) -> None:
        self.reader, self.writer, self.folder = reader, writer, folder
        self.fault, _, limit = fault.partition(":")
        self.limit, self.seen = int(limit or 0), 0
        self.streams: dict[int, Stream] = {}
        self.maximum, self.opened, self.tasks = 4096, 0, set[asyncio.Task[None]]()

    async def send(self, command: bytes, first: int, second: int, content: bytes = b"") -> None:
        check = int.from_bytes(command, "little") ^ 0xFFFFFFFF
        head = HEADER.pack(command, first, second, len(content), sum(content) & 0xFFFFFFFF, check)
        self.writer.write(head + content)
        await self.writer.drain()

    async def serve(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self.packet():
                pass
        for stream in self.streams.values():
            stream.end()
        self.writer.close()

    async def packet(self) -> bool:
        """Read and answer one packet; False where a fault ends the connection."""
        head = HEADER.unpack(await self.reader.readexactly(HEADER.size))
        command, first, second, size = head[:4]
        content = await self.reader.readexactly(size)
        self.seen += size
        if self.limit and self.seen > self.limit:
            if self.fault == "frozen":
                await asyncio.sleep(3600)
            return False
        if command == b"CNXN":
            self.maximum = min(second, MAXIMUM)
            await self.greet()
        elif command == b"AUTH" and first == SIGNATURE:  # the key itself waits for its owner
            await self.send(b"AUTH", 1, 0, os.urandom(20))
        elif command == b"OPEN":
            self.opened += 1
            stream = self.streams[self.opened] = Stream(self, self.opened, first)
            task = asyncio.create_task(self.service(stream, content.rstrip(b"\0").decode()))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        elif (known := self.streams.get(second)) is not None:
            await self.move(known, command, first, content)
        return True

    async def greet(self) -> None:
        if self.fault == "unauthorized":
            await self.send(b"AUTH", 1, 0, os.urandom(20))
            return
        features = "cmd" if self.fault == "no-shell-v2" else "cmd,shell_v2"
        banner = f"device::ro.product.name=test;ro.product.model=test;features={features}"
        await self.send(b"CNXN", VERSION, MAXIMUM, banner.encode())

    async def move(self, stream: Stream, command: bytes, remote: int, content: bytes) -> None:
        if command == b"OKAY":
            stream.acknowledged.release()
        elif command == b"WRTE":
            stream.received.put_nowait(content)
            await self.send(b"OKAY", stream.local, remote)
        elif command == b"CLSE":
            del self.streams[stream.local]
            stream.end()
            await self.send(b"CLSE", stream.local, remote)

    async def service(self, stream: Stream, name: str) -> None:
        kind, _, command = name.partition(":")
        if kind.split(",")[0] == "shell":
            await self.send(b"OKAY", stream.local, stream.remote)
            with contextlib.suppress(EOFError, ConnectionError):
                await shell(stream, command, self.folder)
        if stream.open:
            await self.send(b"CLSE", stream.local, stream.remote)
        self.streams.pop(stream.local, None)


async def shell(stream: Stream, command: str, folder: Path) -> None:
    """The service ``shell,v2``: a command's three streams and its code, each packet with an id."""
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", command, cwd=folder, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin
    assert process.stdout
    assert process.stderr

    async def forward(source: asyncio.StreamReader, name: int) -> None:
        while part := await source.read(1 << 16):
            await stream.write(struct.pack("<BI", name, len(part)) + part)

    async def feed(sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                name, size = struct.unpack("<BI", await stream.read(5))
                part = await stream.read(size)
                if name == CLOSE_STDIN:
                    sink.close()
                elif name == STDIN:
                    sink.write(part)
                    await sink.drain()

    feeding = asyncio.create_task(feed(process.stdin))
    await asyncio.gather(forward(process.stdout, STDOUT), forward(process.stderr, STDERR))
    code = await process.wait()
    feeding.cancel()
    await stream.write(struct.pack("<BIB", EXIT, 1, code if code >= 0 else 128 - code))


async def main(folder: Path, fault: str) -> None:
    """Serve for ever on a port that it prints."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Connection(reader, writer, folder, fault).serve()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@dataclass(frozen=True, kw_only=True)
class Phone:
    """A running daemon."""

    process: subprocess.Popen[str]
    port: int
    folder: Path

    def device(self, **options: object) -> Device:
        """The phone as a device of edgepack."""
        chosen = {"workspace": str(self.folder / "work"), "connect_seconds": 10.0, **options}
        return Device(
            id="phone",
            target="android-arm64",
            link="adb",
            address=f"127.0.0.1:{self.port}",
            options=DeviceOptions(**chosen),
        )


@contextlib.contextmanager
def serving(folder: Path, fault: str = "") -> Iterator[Phone]:
    """A phone for the length of the block."""
    needs(shutil.which("adb") is not None, "install the package adb")
    folder.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.adbd", str(folder), fault],
        cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield Phone(process=process, port=int(process.stdout.readline()), folder=folder)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        with process:
            pass


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), "".join(sys.argv[2:3])))


def servers() -> set[int]:
    """The ADB servers that run; tests of another process beside this one have their own."""
    ours = os.environ.get("PYTEST_XDIST_WORKER", "")
    found = set()
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().split(b"\0")
            state = place.with_name("stat").read_text().rpartition(")")[2].split()[0]
            given = place.with_name("environ").read_bytes().split(b"\0")
        except OSError:
            continue
        whose = f"PYTEST_XDIST_WORKER={ours}".encode() in given or not ours
        if b"fork-server" in words and state != "Z" and whose:
            found.add(int(place.parent.name))
    return found
