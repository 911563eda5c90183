"""The target that a device is nearest to: by what it is, then by what its board calls itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from edgepack.spec.target import Target

GENERIC: Mapping[tuple[str, str], str] = {
    ("linux", "aarch64"): "generic-linux-aarch64",
    ("linux", "armv7l"): "generic-linux-armv7",
    ("linux", "x86_64"): "generic-linux-x86_64",
    ("android", "aarch64"): "android-arm64",
}
"""The target of a device whose board nobody described, by kind and arch."""


def nearest(
    targets: Iterable[Target], *, kind: str, arch: str, board: str
) -> tuple[Target | None, str]:
    """(the target, why that one); None where no target has that kind and arch.

    A target fits a board where the board's name holds every word of the target's, up to the first
    comma: "Raspberry Pi 4 Model B Rev 1.4" is a "Raspberry Pi 4 Model B, 64-bit". Of several, that
    with the most words is the nearest.
    """
    candidates = [target for target in targets if (target.kind, target.arch) == (kind, arch)]
    found, most = None, 0
    for target in candidates:
        wanted = words(target.name.partition(",")[0])
        if wanted <= words(board) and len(wanted) > most:
            found, most = target, len(wanted)
    if found is not None:
        return found, f"its board is '{board}'"
    by_id = {target.id: target for target in candidates}
    generic = by_id.get(GENERIC.get((kind, arch), ""))
    if generic is None:
        return None, f"no target is {kind} on {arch}"
    return generic, f"no target is for the board '{board}'" if board else "its board has no name"


def words(name: str) -> set[str]:
    """The words of a name; ``1.4`` is one, so that it is not taken for a 4."""
    return set(re.findall(r"[a-z0-9][a-z0-9.]*", name.lower()))
