"""Reach a device: the four calls that every link has, and the table of links."""

from __future__ import annotations

import importlib
import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgepack.errors import LinkError, RemoteCommandError
from edgepack.spec.device import Device

log = logging.getLogger(__name__)

LINKS: Mapping[str, str] = {
    "adb": "edgepack.links.adb:connect",
    "local": "edgepack.links.local:connect",
    "ssh": "edgepack.links.ssh:connect",
}

MAKE_ROOT = """
umask 077
mkdir -p -- "$1" || exit
theirs() {
  owner=$(set -f; set -- $(ls "$@" 2>/dev/null); echo "$3")
  test "$owner" != 0 && test "$owner" != "$(id -u)"
}
if test -h "$1" && theirs -ldn -- "$1"; then echo "$1 is another user's link" >&2; exit 1; fi
if ! test -O "$1" && { ! test -k "$1" || theirs -ldnL -- "$1"; }; then
  echo "$1 is another user's" >&2
  exit 1
fi
"""
"""Programs run from there: nobody else may be able to exchange the folder, or what lies in it.

The owner of a folder can rename whatever is in it, sticky or not; a link in /tmp may have been
laid by anybody, to a folder of ours.
"""
MAKE_FOLDER = MAKE_ROOT + 'mkdir -- "$2"'


@dataclass(frozen=True, kw_only=True)
class Completed:
    """A command that ended. ``returncode`` is 128 + n where signal n ended it."""

    returncode: int
    stdout: bytes
    stderr: bytes


class Link(Protocol):
    """A way to a device. Remote paths are absolute; every call ends by its deadline.

    Each call raises LinkTimeout at its deadline, having ended what it started on the device,
    and LinkError where the device is lost.
    """

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
    ) -> Completed:
        """Run a program there, its arguments taken literally; ``env`` adds to its environment.

        127 is the code of a program that is not there, 126 of one that may not be run.
        """
        ...

    def put(self, local: Path, remote: str, *, timeout_s: float) -> None:
        """Copy a file to the device; ``remote`` appears whole or not at all."""
        ...

    def get(self, remote: str, local: Path, *, timeout_s: float) -> None:
        """Copy a file from the device; ``local`` appears whole or not at all."""
        ...

    def close(self) -> None:
        """End the connection; a second call does nothing."""
        ...


def connect(device: Device) -> Link:
    """A link to the device. Raises LinkError, with a hint, where it cannot be reached."""
    module, _, attribute = LINKS[device.link].partition(":")
    link: Link = getattr(importlib.import_module(module), attribute)(device)
    return link


def checked(
    link: Link,
    argv: Sequence[str],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
) -> Completed:
    """Run a program on the device. Raises RemoteCommandError where its code is not zero."""
    done = link.run(argv, timeout_s=timeout_s, env=env, stdin=stdin)
    if done.returncode:
        stderr = done.stderr.decode(errors="replace").strip()
        raise RemoteCommandError(
            f"`{argv[0]}` ended with code {done.returncode} on the device"
            + (f": {last_line(stderr)}" if stderr else ""),
            command=" ".join(argv),
            returncode=done.returncode,
            stderr=stderr,
        )
    return done


@contextmanager
def workspace(link: Link, root: str, *, timeout_s: float) -> Iterator[str]:
    """A new private folder (mode 0700) below ``root`` on the device, removed with the block.

    Raises LinkError where it cannot be made.
    """
    root = root.rstrip("/")
    place = f"{root}/job-{secrets.token_hex(6)}"
    try:
        checked(link, ["sh", "-c", MAKE_FOLDER, "sh", root, place], timeout_s=timeout_s)
    except RemoteCommandError as error:
        raise LinkError(
            f"cannot make the folder {place} on the device: {last_line(error.stderr)}",
            "set options.workspace in the device's TOML to a folder that you may write to",
        ) from error
    try:
        yield place
    finally:
        try:
            checked(link, ["rm", "-rf", "--", place], timeout_s=timeout_s)
        except LinkError as error:
            log.warning("%s may remain on the device: %s", place, error.message)


def last_line(text: str) -> str:
    """The last line that says something, cut to a readable length.

    Devices are not trusted: what could steer a terminal is left out.
    """
    lines = [printable(line).strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    return lines[-1][:300] if lines else "no message"


def printable(text: str) -> str:
    """A text on one line, with a blank for each character that is not shown."""
    return "".join(character if character.isprintable() else " " for character in text)
