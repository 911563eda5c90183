"""Processes that have imported a runtime already, one for each, and fork for each request.

A runtime takes a quarter of a second to import; a fork of a process that has it takes none. Each
request still has a process of its own: a model that crashes it or leaks takes nothing else along.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

FORK = Path(__file__).with_name("fork.py")
PATIENCE_S = 5.0


class Server:
    """A program that forks scripts; see ``edgepack.runtimes.fork``. One request at a time."""

    def __init__(self, python: str, module: str, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [python, str(FORK), module],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, **environment, "PYTHONSAFEPATH": "1"},
            start_new_session=True,
        )  # fmt: skip
        self._rest = b""

    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def run(self, argv: Sequence[str], stdout: Path, stderr: Path, timeout_s: float) -> int:
        """Run a Python script to its end; its return code, negative where a signal ended it.

        Raises TimeoutError at the deadline. The script's whole group has ended afterwards.
        """
        deadline = time.monotonic() + timeout_s
        for path in (stdout, stderr):
            path.write_bytes(b"")
        request = {"argv": list(argv), "stdout": str(stdout), "stderr": str(stderr)}
        pid, code = None, None
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            pid = self._number(deadline)
            code = self._number(deadline)
            return code
        except BrokenPipeError:
            return self._process.wait()
        finally:
            if code is None:
                self._give_up(pid)

    def _give_up(self, pid: int | None) -> None:
        """End what runs; and the server too, unless it has seen that end."""
        seen = False
        try:
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
                self._number(time.monotonic() + PATIENCE_S)
                seen = True
        except (TimeoutError, BrokenPipeError):
            pass
        finally:  # also after a second Ctrl-C: an answer that comes late is another request's
            if not seen:
                self.close()

    def _number(self, deadline: float) -> int:
        """The next line that it says. Raises TimeoutError, BrokenPipeError where it has died."""
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        while b"\n" not in self._rest:
            if not select.select([pipe], [], [], max(deadline - time.monotonic(), 0))[0]:
                raise TimeoutError
            found = os.read(pipe, 1024)
            if not found:
                raise BrokenPipeError
            self._rest += found
        line, _, self._rest = self._rest.partition(b"\n")
        return int(line)

    def close(self) -> None:
        """End it, and the process that it waits for."""
        if self.alive():
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(BrokenPipeError), self._process:
            pass  # closes the pipes and waits


Key = tuple[str, str, tuple[tuple[str, str], ...]]


class Pool:
    """Servers that wait for requests, by what they were started with.

    Requests at one time have a server each. Those of a process end with it; a fork of it starts
    its own.
    """

    def __init__(self) -> None:
        self.idle: dict[Key, list[Server]] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def server(self, key: Key) -> Iterator[Server]:
        """One for the length of the block."""
        with self._lock:
            waiting = self.idle.setdefault(key, [])
            found = waiting.pop() if waiting else None
        if found is None or not found.alive():
            found = Server(key[0], key[1], dict(key[2]))
        try:
            yield found
        finally:
            if found.alive():
                with self._lock:
                    waiting.append(found)

    def forget(self) -> None:
        """In a fork: the servers, and the lock as it was, are another process's."""
        self.idle.clear()
        self._lock = threading.Lock()

    def close(self) -> None:
        """End those that wait."""
        for servers in self.idle.values():
            for server in servers:
                server.close()
        self.idle.clear()


@cache
def _pool() -> Pool:
    made = Pool()
    atexit.register(made.close)
    os.register_at_fork(after_in_child=made.forget)
    return made


def run(
    python: str,
    module: str,
    environment: Mapping[str, str],
    argv: Sequence[str],
    *,
    stdout: Path,
    stderr: Path,
    timeout_s: float,
) -> int:
    """Run a script in a fork of a process that has imported ``module``; see ``Server.run``."""
    with _pool().server((python, module, tuple(sorted(environment.items())))) as server:
        return server.run(argv, stdout, stderr, timeout_s)
