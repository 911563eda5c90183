"""Files that stay on a device, by their content: what is unchanged is never sent twice."""

from __future__ import annotations

import re
from pathlib import Path

from edgepack.errors import LinkError
from edgepack.files import sha256
from edgepack.links.link import MAKE_ROOT, Link, last_line

MARGIN_BYTES = 8 << 20
FIND = (
    MAKE_ROOT
    + """
cache=$1/cache
mkdir -p -- "$cache" || exit
if ! test -O "$cache" || { test -h "$cache" && theirs -ldn -- "$cache"; }; then
  echo "$cache is another user's" >&2
  exit 1
fi
rm -f -- "$cache"/*.part
if test -f "$cache/$2" && test "$(wc -c < "$cache/$2")" -eq "$3"; then
  touch -- "$cache/$2"
  sum=$(sha256sum "$cache/$2" 2>/dev/null) && test "${sum%% *}" = "$4" && echo here && exit
fi
df -P -k -- "$cache" 2>/dev/null || df -k "$cache" 2>/dev/null || true
"""
)
"""Says ``here``, or what is free. A transfer that was cut may have left a part."""


def delivered(link: Link, root: str, local: Path, *, timeout_s: float) -> str:
    """The path on the device of a file with ``local``'s content, sent if it is not there yet.

    What was not used for long, ``alone`` removes. Raises LinkError where there is no room.
    """
    root, digest, size = root.rstrip("/"), sha256(local.read_bytes()), local.stat().st_size
    name = f"{digest}-{_safe(local.name)}"
    argv = ["sh", "-c", FIND, "sh", root, name, str(size), digest]
    done = link.run(argv, timeout_s=timeout_s)
    if done.returncode:
        reason = last_line(done.stderr.decode(errors="replace"))
        raise LinkError(
            f"cannot use the folder {root}/cache on the device: {reason}",
            "set options.workspace in the device's TOML to a folder that you may write to",
        )
    said = done.stdout.decode(errors="replace")
    remote = f"{root}/cache/{name}"
    if last_line(said) == "here":
        return remote
    room = free_bytes(said)
    if room is not None and room < size + MARGIN_BYTES:
        raise LinkError(
            f"no room for {local.name} in {root} on the device: it needs "
            f"{(size + MARGIN_BYTES) / 1e6:.1f} MB, and {room / 1e6:.1f} MB are free",
            "make room there, or set options.workspace in the device's TOML to another folder",
        )
    link.put(local, remote, timeout_s=timeout_s)
    return remote


def free_bytes(said: str) -> int | None:
    """What ``df`` says is free, in bytes; None where it cannot be understood."""
    found = re.search(r"\s(\d+)\s+(\d+)\s+(\d+)\s+\d+%", said)
    return int(found[3]) * 1024 if found else None


def _safe(name: str) -> str:
    """A name that says what it is, without what a file system may not take."""
    return re.sub(r"[^\w.-]", "-", name, flags=re.ASCII)[-80:]
