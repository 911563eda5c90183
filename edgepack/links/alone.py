"""One measurement at a time on a device: a lock there, and what a crashed job left, removed.

The lock is a symbolic link, which is made whole or not at all; what it points to says whose it
is and until when, by the device's own clock since boot: a wrong date changes nothing. It is
renewed while it is used, and taken over where its owner is known to be dead, its time is up, or
the device was started again.
"""

from __future__ import annotations

import getpass
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgepack.errors import LinkError, RemoteCommandError
from edgepack.events import step
from edgepack.files import sha256
from edgepack.links.link import MAKE_ROOT, Completed, Link, checked, last_line

LEASE_SECONDS = 900
"""How long a lock of a machine that was lost keeps others away."""
MARGIN_SECONDS = 60
POLL_SECONDS = 5.0
"""Seldom: whoever asks takes time from the one who measures there."""
TAKEN = 75
GUARD = """
exec 9< "$1" && command -v flock > /dev/null && flock 9
"""
"""One of these scripts at a time: without it two may take over the same dead owner's lock."""
TAKE = (
    MAKE_ROOT
    + GUARD
    + """
read -r now rest < /proc/uptime && read -r boot < /proc/sys/kernel/random/boot_id || exit
now=${now%.*} lock=$1/lock
mine="$boot $((now + $2)) $3"
if test -e "$lock" && ! test -h "$lock"; then echo "$lock is no lock" >&2; exit 1; fi
ln -sn -- "$mine" "$lock" 2>/dev/null && echo "$mine" && exit
tries=9
until held=$(readlink "$lock"); do
  why=$(ln -sn -- "$mine" "$lock" 2>&1) && echo "$mine" && exit
  tries=$((tries - 1))
  test "$tries" -gt 0 || { echo "$why" >&2; exit 1; }
done
old=${held%% *} until=${held#* } until=${until%% *}
if test "$old" != "$boot" || test "$until" -lt "$now" || test "$held" = "$4"; then
  mv -- "$lock" "$lock.$$" && taken=$(readlink "$lock.$$") && rm -f -- "$lock.$$"
  test "$taken" = "$held" && ln -sn -- "$mine" "$lock" && echo "$mine" && exit
  test -n "$taken" && ln -sn -- "$taken" "$lock" 2>/dev/null
fi
echo "$held"
exit 75
"""
)
RENEW = (
    GUARD
    + """
test "$(readlink "$1/lock")" = "$4" || { echo "another has the lock" >&2; exit 75; }
read -r now rest < /proc/uptime && read -r boot < /proc/sys/kernel/random/boot_id || exit
mine="$boot $((${now%.*} + $2)) $3"
ln -sn -- "$mine" "$1/lock.$$" && mv -f -- "$1/lock.$$" "$1/lock" && echo "$mine"
"""
)
RELEASE = GUARD + 'case "$(readlink "$1/lock")" in *" $2") rm -f -- "$1/lock" ;; esac'
SWEEP = """
for place in $(grep -l -s -F -e "$2=$3" /proc/[0-9]*/environ); do
  place=${place#/proc/}
  kill -9 "${place%/environ}" 2>/dev/null
done
for job in "$1"/job-*; do test -d "$job" && rm -rf -- "$job"; done
rm -f -- "$1"/lock.[0-9]*
find "$1/cache" -mindepth 1 -maxdepth 1 -mtime "+$4" -exec rm -rf -- {} + 2>/dev/null
true
"""
"""Ends what an owner before us had started and could not end, and removes what it had made.

So does it with what the cache keeps unused: now, when nothing that a job needs is there yet, so
that a clock that is set in the middle of it takes nothing away.

A server may keep a command's words in its environment: the mark stands in two of them.
"""
KEPT_DAYS = 30
JOB = "EDGEPACK_JOB"
"""A variable of what runs on the device under a lock: by its value it is found again."""

_living: set[str] = set()
"""The words that tell the locks of this process apart, while they are held."""


@contextmanager
def alone(link: Link, root: str, *, timeout_s: float, wait_s: float) -> Iterator[Link]:
    """The link, while nobody else measures below ``root`` on the device.

    Waits ``wait_s`` for another to end. Raises LinkError where the lock cannot be had, or is
    lost: then figures were taken beside somebody else's.
    """
    root = root.rstrip("/")
    word = secrets.token_hex(8)
    owner = f"{_user()}@{_word(socket.gethostname())} {_here()} {_process()} {word}"
    held = Held(link, root, owner, timeout_s)
    _living.add(word)
    try:
        held.take(wait_s)
        checked(
            link, ["sh", "-c", SWEEP, "sh", root, *held.mark, str(KEPT_DAYS)], timeout_s=timeout_s
        )
        yield held
    finally:
        try:
            held.release()
        finally:
            _living.discard(word)


class Held:
    """A link that renews the lock before a call that may outlast it. See Link.

    ``mark`` is a variable and its value, in the environment of whatever it runs.
    """

    def __init__(self, link: Link, root: str, owner: str, timeout_s: float) -> None:
        self._link, self._root, self._owner, self._seconds = link, root, owner, timeout_s
        self.mark = (JOB, sha256(root.encode())[:16])
        self._mine = ""
        self._until = 0.0

    def take(self, wait_s: float) -> None:
        """Take the lock, waiting for another to end. Raises LinkError."""
        if (other := self._try("")) is None:
            return
        deadline = time.monotonic() + wait_s
        with step(f"waiting for {_whose(other)} on the device"):
            while (other := self._try(other if _dead(other) else "")) is not None:
                if time.monotonic() > deadline:
                    raise LinkError(
                        f"the device is in use by {_whose(other)}",
                        f"wait until that has ended; where it crashed, remove {self._root}/lock",
                    )
                time.sleep(POLL_SECONDS)

    def _try(self, dead: str) -> str | None:
        """None where the lock is ours now; else what it says. ``dead`` may be taken over."""
        argv = ["sh", "-c", TAKE, "sh", self._root, str(LEASE_SECONDS), self._owner, dead]
        done = self._link.run(argv, timeout_s=self._seconds)
        said = last_line(done.stdout.decode(errors="replace"))
        if done.returncode == TAKEN:
            return said
        if done.returncode:
            reason = last_line(done.stderr.decode(errors="replace"))
            raise LinkError(
                f"cannot use the folder {self._root} on the device: {reason}",
                "set options.workspace in the device's TOML to a folder that you may write to",
            )
        self._mine, self._until = said, time.monotonic() + LEASE_SECONDS
        return None

    def _renewed(self, timeout_s: float) -> Link:
        """The link, its lock good for a call of ``timeout_s`` seconds."""
        if time.monotonic() + timeout_s + MARGIN_SECONDS > self._until:
            lease = int(timeout_s) + LEASE_SECONDS
            argv = ["sh", "-c", RENEW, "sh", self._root, str(lease), self._owner, self._mine]
            try:
                done = checked(self._link, argv, timeout_s=self._seconds)
            except RemoteCommandError as error:
                raise LinkError(
                    f"the lock on the device was lost: {last_line(error.stderr)}", "measure again"
                ) from error
            self._mine = last_line(done.stdout.decode(errors="replace"))
            self._until = time.monotonic() + lease
        return self._link

    def release(self) -> None:
        """Give the lock back, if the device can still be reached."""
        try:
            argv = ["sh", "-c", RELEASE, "sh", self._root, self._owner]
            self._link.run(argv, timeout_s=self._seconds)
        except LinkError:
            return  # its time will be up, or its owner seen to be dead

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
    ) -> Completed:
        """Run a program there; see Link."""
        marked = {**(env or {}), self.mark[0]: self.mark[1]}
        return self._renewed(timeout_s).run(argv, timeout_s=timeout_s, env=marked, stdin=stdin)

    def put(self, local: Path, remote: str, *, timeout_s: float) -> None:
        """Copy a file to the device; see Link."""
        self._renewed(timeout_s).put(local, remote, timeout_s=timeout_s)

    def get(self, remote: str, local: Path, *, timeout_s: float) -> None:
        """Copy a file from the device; see Link."""
        self._renewed(timeout_s).get(remote, local, timeout_s=timeout_s)

    def close(self) -> None:
        """End the connection."""
        self._link.close()


def machine() -> str:
    """A word that tells this machine and its boot from others."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return _word(socket.gethostname())


def _here() -> str:
    """Where process ids mean what they mean here: a container counts its own."""
    try:
        return f"{machine()}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return machine()


def _user() -> str:
    try:
        return _word(getpass.getuser())
    except (KeyError, OSError):  # a container's user may have no name
        return f"user-{os.getuid()}"


def _process() -> str:
    """This process: its id, and when it started, so that another of that id is not taken for it."""
    return f"{os.getpid()} {_started(os.getpid())}"


def _started(pid: int) -> str:
    """When a process of this machine started, in clock ticks; empty where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return ""


def _dead(held: str) -> bool:
    """Whether a lock's owner is a process of this machine that has ended, or let go of it."""
    found = re.fullmatch(r"\S+ \d+ \S+ (\S+) (\d{1,9}) (\d*)(?: (\w+))?", held, re.ASCII)
    if found is None or found[1] != _here():
        return False
    if int(found[2]) == os.getpid() and found[3] == _started(os.getpid()):
        return found[4] not in _living  # its connection was lost, and the lock with it
    return _started(int(found[2])) != found[3] and not _hidden(int(found[2]))


def _hidden(pid: int) -> bool:
    """Whether a process is there that another user runs and /proc does not show."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return not Path(f"/proc/{pid}").exists()
    except (ProcessLookupError, OverflowError):
        return False
    return False


def _whose(held: str) -> str:
    """Whose a lock is, for people."""
    words = held.split()
    return f"{words[2]} (process {words[4]})" if len(words) > 4 else "another edgepack"


def _word(text: str) -> str:
    return re.sub(r"[^\w.-]", "-", text, flags=re.ASCII) or "-"
