"""A link made of one thing: a way to run a shell command on the device with three streams.

Files travel through the standard input and output of ``cat``, so a device needs nothing but a
POSIX shell and its common tools.
"""

from __future__ import annotations

import io
import secrets
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

from edgepack.errors import LinkError, SpecError
from edgepack.files import replacing
from edgepack.links.link import Completed, last_line, printable

PRELUDE = (
    "{ read -r pid name state parent group rest < /proc/$$/stat; } 2>/dev/null || group=$$; "
    'echo "$0 $group"; "$@"; exit $?'
)
"""Says a mark and the process group, to be ended at a deadline; then runs the command.

What a login script may print comes before the mark, and is dropped.
"""
RECEIVE = (
    'umask 077; cat > "$1" && test "$(wc -c < "$1")" -eq "$3" && mv -f -- "$1" "$2" '
    '|| { code=$?; rm -f -- "$1"; exit "$code"; }'
)


class Shell(Protocol):
    """A connection to a device that runs commands there."""

    def execute(
        self,
        command: Sequence[str],
        timeout_s: float,
        source: IO[bytes],
        out: IO[bytes],
        err: IO[bytes],
    ) -> int:
        """Run a command, ``source`` to its input, its output to ``out`` and ``err``; its code.

        Raises LinkTimeout at the deadline, having ended the command, and LinkError where the
        device is lost.
        """
        ...

    def close(self) -> None:
        """End the connection; a second call does nothing."""
        ...


class ShellLink:
    """A device behind a shell; ``name`` is what errors call it."""

    def __init__(self, shell: Shell, name: str) -> None:
        self._shell, self._name = shell, name

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
    ) -> Completed:
        """Run a program there; see Link."""
        pairs = [f"{key}={value}" for key, value in (env or {}).items()]
        command = ["env", *pairs, *argv] if pairs else list(argv)
        out, err = io.BytesIO(), io.BytesIO()
        code = self._shell.execute(command, timeout_s, io.BytesIO(stdin or b""), out, err)
        return Completed(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())

    def put(self, local: Path, remote: str, *, timeout_s: float) -> None:
        """Copy a file to the device; see Link."""
        err = io.BytesIO()
        try:
            source = local.open("rb")
        except OSError as error:
            raise LinkError(f"cannot read {local}: {error.strerror}") from error
        with source:
            size = str(local.stat().st_size)
            part = f"{remote}.{secrets.token_hex(4)}.part"
            command = ["sh", "-c", RECEIVE, "sh", part, remote, size]
            code = self._shell.execute(command, timeout_s, source, io.BytesIO(), err)
        if code:
            reason = last_line(err.getvalue().decode(errors="replace"))
            raise LinkError(
                f"cannot write {remote} on {self._name}: {reason}",
                "check that the folder is there and has room (options.workspace)",
            )

    def get(self, remote: str, local: Path, *, timeout_s: float) -> None:
        """Copy a file from the device; see Link."""
        err = io.BytesIO()
        if not local.parent.is_dir():
            raise LinkError(f"no such folder: {local.parent}")
        try:
            with replacing(local) as temporary, temporary.open("wb") as sink:
                command = ["cat", "--", remote]
                code = self._shell.execute(command, timeout_s, io.BytesIO(), sink, err)
                if code:
                    reason = last_line(err.getvalue().decode(errors="replace"))
                    raise LinkError(f"cannot read {remote} on {self._name}: {reason}")
        except SpecError as error:
            raise LinkError(error.message, "free some room, or choose another place") from error

    def close(self) -> None:
        """End the connection."""
        self._shell.close()


def killing(group: int) -> str:
    """The line that ends a process group: dash's ``kill`` takes no ``--``."""
    return f"kill -9 -{group}"


def group_in(line: bytes) -> int:
    """The process group in the line that begins with the mark. Raises LinkError.

    The device is not trusted: 0 and 1 would mean every process.
    """
    number = line.split()[-1]
    if not number.isdigit() or len(number) > 9 or int(number) < 2:
        raise LinkError(
            f"the shell on the device names no process: {printable(repr(line)[:100])}",
            "is it a POSIX sh?",
        )
    return int(number)


def marked(command: Sequence[str]) -> tuple[str, str]:
    """(a new mark, the line for a shell that says it and the process group, then runs)."""
    mark = f"edgepack-{secrets.token_hex(8)}"
    return mark, shlex.join(["sh", "-c", PRELUDE, mark, *command])
