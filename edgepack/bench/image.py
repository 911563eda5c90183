"""Build what a board boots: Debian's kernel, and a first file system with all that it needs.

Packages are unpacked in memory and written into one cpio archive: no root, no mounts, no
foreign code run here. An image stays in the user's cache folder, with keys of its own.
"""

from __future__ import annotations

import fcntl
import io
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from platformdirs import user_cache_path

from edgepack.bench import apt
from edgepack.bench.boards import Board
from edgepack.bench.cpio import Archive
from edgepack.errors import LinkError
from edgepack.events import step
from edgepack.files import sha256

USER, UID = "edge", 1000
SHELL_UID = 2000
"""The user that owns a phone's /data/local/tmp."""
GUEST = Path(__file__).with_name("guest")
UNNEEDED = re.compile(
    r"(usr/share/(doc|man|locale|perl|perl5|mime|bug|lintian|zoneinfo|info|keyrings|menu|pixmaps"
    r"|bash-completion)|usr/lib/[^/]+/(perl|perl-base|gconv)|usr/lib/[^/]+/lib(perl|icu)"
    r"|usr/lib/systemd/system|etc/init\.d|boot)(/|\.|$)"
)
MODULES = {
    "virtio", "virtio_ring", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci",
    "failover", "net_failover", "virtio_net", "virtio-rng",
}  # fmt: skip
TEXTS = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\n"
    f"{USER}:x:{UID}:{UID}::/home/{USER}:/bin/sh\n"
    "sshd:x:101:65534::/run/sshd:/usr/sbin/nologin\n",
    "etc/group": f"root:x:0:\n{USER}:x:{UID}:\nnogroup:x:65534:\n",
    "etc/hosts": "127.0.0.1 localhost edgepack-board\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files\n",
    "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm), emulated"\n'
    'ID=debian\nVERSION_ID="12"\n',
}


@dataclass(frozen=True, kw_only=True)
class Image:
    """A folder with ``vmlinuz``, ``initrd``, the user's ``key`` and the host's ``hostkey``."""

    folder: Path

    @property
    def kernel(self) -> Path:
        """The kernel."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """The first file system."""
        return self.folder / "initrd"

    @property
    def key(self) -> Path:
        """The private key of the board's user."""
        return self.folder / "key"

    def host_key(self) -> str:
        """The board's public key, as ``known_hosts`` writes it."""
        return " ".join((self.folder / "hostkey.pub").read_text().split()[:2])


def image(board: Board) -> Image:
    """The board's image, from the cache or freshly built. Raises LinkError where it cannot be."""
    parts = (
        board.arch,
        board.kernel,
        board.packages,
        board.backports,
        board.links,
        apt.SUITE,
        sources(),
    )
    place = cache() / f"{board.arch}-{sha256(repr(parts).encode())[:16]}"
    if place.is_dir():
        return Image(folder=place)
    made(cache())
    with locked(cache() / f"{board.arch}.lock"):
        if not place.is_dir():
            with step(f"building the image of {board.id}"):
                _build(board, place)
    return Image(folder=place)


def cache() -> Path:
    """Where images stay."""
    return user_cache_path("edgepack") / "bench"


def sources() -> str:
    """A hash of what an image is made by and of, beside Debian's packages."""
    files = [Path(__file__), *sorted(GUEST.iterdir())]
    return sha256(b"\0".join(file.read_bytes() for file in files))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that ends with this process, whatever becomes of it."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with step("waiting for another edgepack at the bench"):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def made(folder: Path) -> Path:
    """A private folder of the bench. Raises LinkError where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
        reason = "it may not be written"
    except OSError as error:
        reason = error.strerror or str(error)
    raise LinkError(
        f"the emulated bench cannot use {folder}: {reason}",
        "XDG_CACHE_HOME and XDG_STATE_HOME name other places",
    )


def _build(board: Board, place: Path) -> None:
    """Build below a temporary name; whoever was killed while building left one behind."""
    for left in place.parent.glob(f".{board.arch}-*"):
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}-"))
    try:
        packages, kernel = apt.download(
            folder / "apt", board.arch, board.packages, board.backports, board.kernel
        )
        for name in ("key", "hostkey"):
            _new_key(folder / name)
        with (folder / "initrd").open("wb") as file:
            archive = Archive(file)
            for package in packages:
                _unpack(package, archive)
            _take_kernel(kernel, folder / "vmlinuz", archive)
            _finish(board, folder, archive)
        shutil.rmtree(folder / "apt")
        folder.rename(place)
    except (OSError, subprocess.SubprocessError, tarfile.TarError) as error:
        raise LinkError(f"cannot build the image of {board.id}: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _new_key(path: Path) -> None:
    if shutil.which("ssh-keygen") is None:
        raise LinkError("the emulated bench needs ssh-keygen", "apt install openssh-client")
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "edgepack", "-f", str(path)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _members(package: Path) -> Iterator[tuple[str, tarfile.TarInfo, tarfile.TarFile]]:
    """Each member of a package, by its path."""
    done = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", str(package)], check=False, capture_output=True
    )
    if done.returncode:
        raise LinkError(f"{package.name} is damaged: {done.stderr.decode().strip()}", "try again")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as members:
        for member in members:
            yield member.name.removeprefix("./").strip("/"), member, members


def _read(member: tarfile.TarInfo, members: tarfile.TarFile) -> bytes:
    """A regular file's or hard link's content."""
    file = members.extractfile(member)
    return file.read() if file is not None else b""


def _unpack(package: Path, archive: Archive) -> None:
    """A package's files, those left out that a board does not need."""
    for name, member, members in _members(package):
        if not name or UNNEEDED.match(name):
            continue
        if member.isdir():
            archive.folder(name, member.mode)
        elif member.issym():
            archive.link(name, member.linkname)
        elif member.isfile() or member.islnk():
            archive.regular(name, _read(member, members), member.mode)


def _take_kernel(package: Path, kernel: Path, archive: Archive) -> None:
    for name, member, members in _members(package):
        path = PurePosixPath(name)
        if name.startswith("boot/vmlinuz"):
            kernel.write_bytes(_read(member, members))
        elif path.suffix == ".ko" and path.stem in MODULES:
            archive.regular(f"lib/modules/{path.name}", _read(member, members))


def _finish(board: Board, made: Path, archive: Archive) -> None:
    """What no package brings: users, keys, settings and the first process."""
    for name, text in TEXTS.items():
        archive.regular(name, text.encode())
    archive.regular("etc/shadow", f"root:*:::::::\n{USER}:*:::::::\n".encode(), 0o600)
    for name in ("proc", "sys", "dev", "run/sshd", "root"):
        archive.folder(name)
    archive.folder("tmp", 0o1777)
    archive.device("dev/console", 5, 1)
    home = f"home/{USER}"
    archive.folder(home, 0o755, UID)
    archive.folder(f"{home}/.ssh", 0o700, UID)
    public = (made / "key.pub").read_bytes()
    archive.regular(f"{home}/.ssh/authorized_keys", public, 0o600, UID)
    archive.regular("etc/ssh/hostkey", (made / "hostkey").read_bytes(), 0o600)
    for name, to in board.links:
        archive.link(name, to)
    archive.regular("etc/ssh/sshd_config", (GUEST / "sshd_config").read_bytes())
    archive.regular("init", (GUEST / "init").read_bytes(), 0o755)
    if board.adb:
        archive.folder("data/local/tmp", 0o771, SHELL_UID)
        for name in ("getprop", "dumpsys"):
            archive.regular(f"usr/bin/{name}", (GUEST / name).read_bytes(), 0o755)
    archive.end()
