"""The program that starts runtimes quickly: imports one, then forks for each request.

``python3 fork.py MODULE`` imports MODULE and reads lines of JSON from stdin, each with ``argv`` (a
Python script and its arguments) and the files ``stdout`` and ``stderr`` that it writes to. For
each it forks a process, group leader of its own, that runs the script, and answers with two lines:
its process id; then how it ended, as ``subprocess`` would say it. It imports nothing of edgepack.
It ends when its stdin does, and takes what it runs along.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import runpy
import select
import signal
import sys
import traceback
from typing import Any

SET_PARENT_DEATH_SIGNAL = 1
"""Of Linux' prctl(2)."""


def serve(module: str) -> None:
    """Answer requests until there are no more."""
    with contextlib.suppress(Exception):  # the script tells what is wrong with it
        importlib.import_module(module)
    libc = ctypes.CDLL(None)
    asked = b""
    while received := os.read(0, 1 << 16):
        asked += received
        if not asked.endswith(b"\n"):
            continue
        watch, held = os.pipe()  # ends when the process does
        pid = os.fork()
        if pid == 0:
            if sys.platform == "linux":
                libc.prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
            run(json.loads(asked))
        os.close(held)
        say(pid)
        asked = b""
        if watch not in select.select([watch, 0], [], [])[0]:  # who asked has gone
            os.killpg(pid, signal.SIGKILL)
        os.close(watch)
        say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def say(number: int) -> None:
    """One line of the answer; nothing is buffered that a fork would double."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, b"%d\n" % number)


def run(request: Any) -> None:
    """Become the script; never returns."""
    code = 1
    try:
        os.setsid()
        for descriptor, name in ((0, os.devnull), (1, request["stdout"]), (2, request["stderr"])):
            flags = os.O_RDONLY if descriptor == 0 else os.O_WRONLY
            os.dup2(os.open(name, flags), descriptor)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - as a fresh process has it
        sys.argv = request["argv"]
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
