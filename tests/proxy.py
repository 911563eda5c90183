"""A network between this machine and a device, which fails when it is told to.

It forwards to a real server on loopback. What goes ``up`` comes from edgepack.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

Way = Literal["up", "down"]
SMALL_BYTES = 1 << 16
"""Of the sockets' buffers: what is frozen shall not vanish in them."""


@dataclass
class Proxy:
    """A forwarder at ``port``; its methods may be called at any time, from any thread."""

    target: int
    listener: socket.socket
    passed: dict[Way, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    accepted: threading.Event = field(default_factory=threading.Event)
    _after: dict[Way, tuple[int, Callable[[], None]]] = field(default_factory=dict)
    _closed: set[Way] = field(default_factory=set)
    _flowing: threading.Event = field(default_factory=threading.Event)
    _ends: list[socket.socket] = field(default_factory=list)
    greeting: bytes | None = None
    """What is said instead of asking the server."""
    delay_s: float = 0.0
    """How long the server's first word is kept back."""

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.listener.getsockname()[1])

    def after(self, way: Way, count: int, act: Callable[[], None]) -> None:
        """Do something once, before more than ``count`` bytes have gone that way."""
        self._after[way] = (self.passed[way] + count, act)

    def cut(self) -> None:
        """End every connection, and take no more."""
        with contextlib.suppress(OSError):
            self.listener.close()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._flowing.set()

    def freeze(self) -> None:
        """Forward nothing more; every connection stays open."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Forward again."""
        self._flowing.set()

    def lose(self, way: Way) -> None:
        """Take what comes from one side, and lose it: a link that is half open."""
        self._closed.add(way)

    def serve(self) -> None:
        """Take connections until it is closed."""
        self._flowing.set()
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                threading.Thread(target=self._connected, args=(near,), daemon=True).start()

    def _connected(self, near: socket.socket) -> None:
        self._ends.append(near)
        self.accepted.set()
        if self.greeting is not None:
            with contextlib.suppress(OSError), near:
                near.sendall(self.greeting)
            return
        try:
            far = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            near.close()
            return
        self._ends.append(far)
        for end in (near, far):
            for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end.setsockopt(socket.SOL_SOCKET, buffer, SMALL_BYTES)
        up = threading.Thread(target=self._pump, args=(near, far, "up"), daemon=True)
        up.start()
        time.sleep(self.delay_s)
        self._pump(far, near, "down")
        up.join()
        near.close()
        far.close()

    def _pump(self, source: socket.socket, sink: socket.socket, way: Way) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._flowing.wait()
                part = source.recv(1 << 14)
                limit, act = self._after.get(way, (0, None))
                if act is not None and self.passed[way] + len(part) > limit:
                    sink.sendall(part[: limit - self.passed[way]])
                    part = part[limit - self.passed[way] :]
                    self.passed[way] = limit
                    del self._after[way]
                    act()
                self._flowing.wait()
                if not part:
                    break
                if way not in self._closed:
                    sink.sendall(part)
                self.passed[way] += len(part)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def forwarding(target: int) -> Iterator[Proxy]:
    """A proxy to a port of this machine, for the length of the block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Proxy(target=target, listener=listener)
        thread = threading.Thread(target=proxy.serve, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            proxy.cut()
            thread.join(5)
