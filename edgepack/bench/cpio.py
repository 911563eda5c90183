"""Write a cpio archive of the format ``newc``, of which Linux makes its first file system."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from typing import IO


@dataclass
class Archive:
    """An archive written to ``file``: folders are made before what lies in them.

    https://www.kernel.org/doc/html/latest/driver-api/early-userspace/buffer-format.html
    """

    file: IO[bytes]
    _folders: set[str] = field(default_factory=set)
    _count: int = 0

    def folder(self, name: str, mode: int = 0o755, owner: int = 0) -> None:
        """A folder; one that is there already keeps the permissions it came with."""
        name = name.strip("/")
        if name and name not in self._folders:
            self._parents(name)
            self._folders.add(name)
            self._entry(name, stat.S_IFDIR | mode, owner=owner)

    def regular(self, name: str, content: bytes, mode: int = 0o644, owner: int = 0) -> None:
        """A regular file."""
        self._parents(name)
        self._entry(name, stat.S_IFREG | mode, content, owner=owner)

    def link(self, name: str, to: str) -> None:
        """A symbolic link."""
        self._parents(name)
        self._entry(name, stat.S_IFLNK | 0o777, to.encode())

    def device(self, name: str, major: int, minor: int, mode: int = 0o600) -> None:
        """A character device."""
        self._parents(name)
        self._entry(name, stat.S_IFCHR | mode, device=(major, minor))

    def end(self) -> None:
        """The trailer, without which the kernel takes the archive for cut off."""
        self._entry("TRAILER!!!", 0)

    def _parents(self, name: str) -> None:
        if parent := name.strip("/").rpartition("/")[0]:
            self.folder(parent)

    def _entry(
        self,
        name: str,
        mode: int,
        content: bytes = b"",
        owner: int = 0,
        device: tuple[int, int] = (0, 0),
    ) -> None:
        self._count += 1
        path = name.strip("/").encode() + b"\0"
        fields = (
            self._count, mode, owner, owner, 1, 0, len(content), 0, 0, *device, len(path), 0,
        )  # fmt: skip
        head = b"070701" + b"".join(b"%08X" % value for value in fields) + path
        for part in (head, content):
            self.file.write(part + b"\0" * (-len(part) % 4))
