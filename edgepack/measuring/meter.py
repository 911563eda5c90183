"""Energy, by a meter that the user has: it is measured, or it is absent; it is never estimated."""

from __future__ import annotations

import math
import selectors
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import IO, Protocol

from edgepack.errors import MeasureError
from edgepack.measuring.session import Arrays, Session
from edgepack.records import Energy
from edgepack.spec import target

ANSWER_SECONDS = 20.0
"""How long a meter's program may take to start, and to tell what it counted."""
MOST_BYTES = 1 << 12
READY = "ready"
HINT = (
    "options.meter names a program that says `ready` when it counts and, once its stdin is closed, "
    "the joules"
)


class Meter(Protocol):
    """Something that counts the energy that a device takes."""

    name: str

    def start(self) -> None:
        """Count from here on. Raises MeasureError where it cannot."""
        ...

    def stop(self) -> float:
        """End, also where it never started, and tell the joules. Raises MeasureError."""
        ...


class CommandMeter:
    """A program on this machine, started without a shell.

    It writes the line ``ready`` when it counts. When its stdin is closed it writes the joules, a
    number, and ends with code 0.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self.name = argv[0]
        self._argv = list(argv)
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None

    def start(self) -> None:
        """Start the program and wait for it to be ready; see Meter."""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - a full pipe would stop it
        try:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,
            )
        except (OSError, ValueError) as error:
            self._end()
            raise MeasureError(f"the meter {self.name} does not start: {error}", HINT) from error
        line = self._said(lambda text: b"\n" in text)
        if line.strip() != READY:
            raise self._failure(f"said {line.strip()!r} where it should be ready")

    def stop(self) -> float:
        """Close the program's stdin and read what it counted; see Meter."""
        process = self._process
        if process is None or process.stdin is None:
            raise MeasureError(f"the meter {self.name} was not started", HINT)
        process.stdin.close()
        text = self._said(lambda _: False).strip()
        try:
            code = process.wait(ANSWER_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise self._failure("does not end") from error
        try:
            joules = float(text)
        except ValueError:
            joules = math.nan
        if code != 0 or not math.isfinite(joules) or joules < 0:
            raise self._failure(f"said {text!r} and ended with code {code}")
        self._end()
        return joules

    def _said(self, enough: Callable[[bytes], bool]) -> str:
        """What the program writes until it is enough, or until its output ends."""
        process, text = self._process, b""
        if process is None or process.stdout is None:
            return ""
        until = time.monotonic() + ANSWER_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not enough(text) and len(text) < MOST_BYTES:
                if not selector.select(max(0.0, until - time.monotonic())):
                    raise self._failure(f"said nothing for {ANSWER_SECONDS:g} s")
                part = process.stdout.read(MOST_BYTES)
                if not part:
                    break
                text += part
        return text.decode(errors="replace")

    def _failure(self, what: str) -> MeasureError:
        """The error, with the program's last words; the program is ended."""
        words = ""
        if self._errors is not None:
            self._errors.seek(0)
            lines = self._errors.read(MOST_BYTES).decode(errors="replace").split("\n")
            words = next((line.strip()[:200] for line in reversed(lines) if line.strip()), "")
        self._end()
        return MeasureError(f"the meter {self.name} {what}" + (f": {words}" if words else ""), HINT)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()  # it has been reaped where it ended by itself
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
        if self._errors is not None:
            self._errors.close()
            self._errors = None


def metered(
    meter: Meter,
    session: Session,
    inputs: Arrays,
    protocol: target.Protocol,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Energy:
    """The energy of one burst. Raises what ended the burst, and MeasureError of the meter."""
    whole = replace(protocol, max_start_c=None)  # waiting would be counted
    meter.start()
    start = clock()
    try:
        burst = session.burst(inputs, whole)
    except BaseException:
        _quietly(meter)
        raise
    seconds, joules = clock() - start, meter.stop()
    if burst.failure is not None:
        raise burst.failure
    count = 1 + burst.warmup_runs + len(burst.samples_us) + len(inputs[0] if inputs else [0])
    return Energy(joules=joules, seconds=seconds, inferences=count, meter=meter.name)


def _quietly(meter: Meter) -> None:
    try:
        meter.stop()
    except MeasureError:
        return
