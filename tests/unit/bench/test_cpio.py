"""What the archive writer writes, read back by the format's own rules."""

from __future__ import annotations

import io
import stat

from hypothesis import given
from hypothesis import strategies as st

from edgepack.bench.cpio import Archive

names = st.lists(
    st.text(st.characters(categories=("L", "N"), include_characters=" .-_"), min_size=1).filter(
        lambda part: part not in (".", "..")
    ),
    min_size=1,
    max_size=4,
).map("/".join)


def entries(content: bytes) -> list[tuple[str, int, bytes]]:
    """(name, mode, content) of each entry up to the trailer."""
    found, place = [], 0
    while True:
        assert content[place : place + 6] == b"070701"
        fields = [int(content[place + 6 + 8 * n : place + 14 + 8 * n], 16) for n in range(13)]
        mode, size, length = fields[1], fields[6], fields[11]
        name = content[place + 110 : place + 109 + length].decode()
        assert content[place + 109 + length] == 0
        start = (place + 110 + length + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        found.append((name, mode, content[start : start + size]))
        place = (start + size + 3) // 4 * 4


@given(st.dictionaries(names, st.binary(max_size=70), max_size=6))
def test_files_come_back_after_their_folders(files: dict[str, bytes]) -> None:
    whole = {  # a name cannot be a file and a folder
        name: content
        for name, content in files.items()
        if not any(other.startswith(f"{name}/") for other in files)
    }
    sink = io.BytesIO()
    archive = Archive(sink)
    for name, content in whole.items():
        archive.regular(f"/{name}", content, 0o640)
    archive.end()
    found = entries(sink.getvalue())
    assert {name: text for name, mode, text in found if stat.S_ISREG(mode)} == whole
    seen: set[str] = set()
    for name, mode, _ in found:
        parent = name.rpartition("/")[0]
        assert not parent or parent in seen
        assert name not in seen
        if stat.S_ISDIR(mode):
            seen.add(name)


def test_links_devices_and_owners() -> None:
    sink = io.BytesIO()
    archive = Archive(sink)
    archive.folder("home/edge/", 0o700, owner=1000)
    archive.folder("home/edge", 0o755)
    archive.link("bin/sh", "dash")
    archive.device("dev/console", 5, 1)
    archive.end()
    found = entries(sink.getvalue())
    assert [(name, oct(mode)) for name, mode, _ in found] == [
        ("home", "0o40755"),
        ("home/edge", "0o40700"),
        ("bin", "0o40755"),
        ("bin/sh", "0o120777"),
        ("dev", "0o40755"),
        ("dev/console", "0o20600"),
    ]
    assert found[3][2] == b"dash"
    assert b"%08X%08X" % (5, 1) in sink.getvalue()
