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
from collections.abc import Mapping, Sequence
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
        try:
            if pid is None:
                raise TimeoutError
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            self._number(time.monotonic() + PATIENCE_S)
        except (TimeoutError, BrokenPipeError):
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


@cache
def _kept() -> dict[tuple[object, ...], Server]:
    """The servers of this process by what they were started with; they end with it."""
    servers: dict[tuple[object, ...], Server] = {}
    owner = os.getpid()

    def end() -> None:
        if os.getpid() == owner:  # not where a fork of this process ends
            for server in servers.values():
                server.close()

    atexit.register(end)
    return servers


_one_at_a_time = threading.Lock()


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
    key = (os.getpid(), python, module, *sorted(environment.items()))
    with _one_at_a_time:
        servers = _kept()
        if key not in servers or not servers[key].alive():
            servers[key] = Server(python, module, environment)
        return servers[key].run(argv, stdout, stderr, timeout_s)
