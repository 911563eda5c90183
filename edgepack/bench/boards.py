"""The boards of the bench: what is emulated, and what runs on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from edgepack.errors import SpecError

SYSTEM = (
    "base-passwd", "busybox-static", "coreutils", "dash", "grep", "libstdc++6",
    "openssh-server", "procps", "python3", "sed", "tar",
)  # fmt: skip
ADBD = ("adbd", "android-libbase", "android-libcutils", "android-liblog")


@dataclass(frozen=True, kw_only=True)
class Board:
    """One emulated computer.

    ``arch`` is Debian's name of it. ``cpu`` is always a core that exists: QEMU 7.2's ``max``
    computes wrong XNNPACK results. ``backports`` come from that suite. ``links`` are those,
    as (name, to), that a package's script would make: none runs. With ``counted`` the clock counts
    instructions, a nanosecond each: the same figures on every run.
    """

    id: str
    arch: str
    emulator: str
    machine: str
    cpu: str
    cores: int
    memory_mib: int
    kernel: str
    packages: tuple[str, ...] = SYSTEM
    backports: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    counted: bool = False

    @property
    def adb(self) -> bool:
        """Whether an adbd runs there beside the sshd."""
        return "adbd" in self.backports


AARCH64 = Board(
    id="aarch64",
    arch="arm64",
    emulator="qemu-system-aarch64",
    machine="virt",
    cpu="cortex-a72",
    cores=2,
    memory_mib=1024,
    kernel="linux-image-cloud-arm64",
    backports=ADBD,
)
ARMV7 = Board(
    id="armv7",
    arch="armhf",
    emulator="qemu-system-arm",
    machine="virt,highmem=off",
    cpu="cortex-a7",
    cores=2,
    memory_mib=1024,
    kernel="linux-image-armmp",
    packages=(*SYSTEM, "python3-numpy"),
    links=tuple(
        (f"usr/lib/arm-linux-gnueabihf/lib{name}.so.3", f"{name}/lib{name}.so.3")
        for name in ("blas", "lapack")
    ),
)
COUNTED = replace(AARCH64, id="aarch64-icount", cores=1, counted=True)
BOARDS: Mapping[str, Board] = {board.id: board for board in (AARCH64, COUNTED, ARMV7)}


def find(name: str) -> Board:
    """The board with an id. Raises SpecError where there is none."""
    if name not in BOARDS:
        raise SpecError(f"no emulated board has the id '{name}'", "known: " + ", ".join(BOARDS))
    return BOARDS[name]
