"""Debian packages of another architecture, checked by their signatures, without root.

apt works in a folder of its own: the machine's packages and settings stay as they are.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgepack.errors import LinkError

SUITE = "bookworm"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR = "EDGEPACK_DEBIAN_MIRROR"
"""A variable that names another mirror of Debian."""


def download(
    folder: Path, arch: str, packages: Sequence[str], backports: Sequence[str], kernel: str
) -> tuple[list[Path], Path]:
    """(the packages with all that they depend on, the kernel's package), as .deb files.

    ``kernel`` is a metapackage: the kernel that it asks for is taken alone. Raises LinkError.
    """
    _prepare(folder)
    _apt(folder, arch, "update")
    simulated = _apt(folder, arch, "install", "--simulate", kernel)
    image = re.search(r"^Inst (linux-image-\d\S+)", simulated, re.MULTILINE)
    if image is None:
        raise LinkError(f"{kernel} of Debian {SUITE} asks for no kernel", _hint())
    wanted = [*packages, *(f"{name}/{SUITE}-backports" for name in backports)]
    _apt(folder, arch, "install", "--yes", "--download-only", *wanted)
    archives = folder / "cache" / "archives"
    before = set(archives.glob("*.deb"))
    _apt(folder, arch, "download", image[1], cwd=archives)
    (kernel_deb,) = set(archives.glob(f"{image[1]}_*.deb"))
    return sorted(before - {kernel_deb}), kernel_deb


def _prepare(folder: Path) -> None:
    if shutil.which("apt-get") is None:
        raise LinkError(
            "the emulated bench needs apt-get", "build it on a Debian or Ubuntu machine"
        )
    if not KEYRING.is_file():
        raise LinkError(
            f"no {KEYRING}: Debian's packages cannot be checked",
            "apt install debian-archive-keyring",
        )
    for place in ("state/lists/partial", "cache/archives/partial"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    (folder / "state" / "status").touch()
    lines = [
        f"deb [signed-by={KEYRING}] {mirror()} {suite} main\n"
        for suite in (SUITE, f"{SUITE}-backports")
    ]
    (folder / "sources.list").write_text("".join(lines))


def mirror() -> str:
    """The mirror of Debian that this machine's apt uses, or another; see MIRROR.

    Raises LinkError where there is neither: on Ubuntu it has to be named.
    """
    if chosen := os.environ.get(MIRROR):
        return chosen
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(LABEL)", "Created-By: Packages"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    sites = [line.partition(" ") for line in done.stdout.splitlines()]
    for site, _, label in sites:
        if label == "Debian":
            return site
    raise LinkError(
        "this machine's apt knows no mirror of Debian, which the emulated boards are made of",
        f"name one in the variable {MIRROR}",
    )


def _apt(folder: Path, arch: str, *command: str, cwd: Path | None = None) -> str:
    """What an apt-get command of a foreign architecture says. Raises LinkError."""
    settings = [
        f"APT::Architecture={arch}",
        f"APT::Architectures::={arch}",
        "APT::Install-Recommends=0",
        "APT::Sandbox::User=",
        "Acquire::Languages=none",
        "Acquire::Retries=2",
        "Debug::NoLocking=1",
        f"Dir::State={folder}/state",
        f"Dir::State::status={folder}/state/status",
        f"Dir::Cache={folder}/cache",
        f"Dir::Etc::sourcelist={folder}/sources.list",
        "Dir::Etc::sourceparts=-",
        "Dir::Etc::preferences=-",
        "Dir::Etc::preferencesparts=-",
    ]
    argv = ["apt-get", "--quiet=2", *(part for one in settings for part in ("--option", one))]
    try:
        done = subprocess.run(
            [*argv, *command], capture_output=True, text=True, cwd=cwd, timeout=600, check=False,
            stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise LinkError(f"`apt-get {command[0]}` took over 10 minutes", _hint()) from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        raise LinkError(
            f"cannot fetch Debian's packages for {arch}: {(said or ['apt-get failed'])[-1]}",
            _hint(),
        )
    return done.stdout


def _hint() -> str:
    return f"check the network, or name another mirror of Debian in {MIRROR}"
