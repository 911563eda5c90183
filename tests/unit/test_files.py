"""Files are whole or absent, JSON is strict."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack import files
from edgepack.errors import SpecError

NAMES = st.text(max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


def refuse(constant: str) -> None:
    """What a strict parser does with NaN and Infinity."""
    raise AssertionError(constant)


def test_writing_makes_folders_and_leaves_nothing_beside_the_file(tmp_path):
    path = tmp_path / "a" / "b" / "note.txt"
    files.write_text(path, "größe\n")
    assert path.read_bytes() == "größe\n".encode()
    files.write_bytes(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert list(path.parent.iterdir()) == [path]


def test_an_interrupted_write_keeps_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with files.replacing(path) as temporary:
            temporary.write_bytes(b"ha")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_writes_nothing_is_an_error_not_an_empty_file(tmp_path):
    with pytest.raises(SpecError, match="cannot write"), files.replacing(tmp_path / "x"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_a_folder_is_told(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(SpecError) as caught:
        files.write_text(tmp_path / "taken" / "x.json", "{}")
    assert str(tmp_path / "taken" / "x.json") in caught.value.message
    assert "-o" in caught.value.hint


def test_a_folder_in_the_place_of_the_file_is_told(tmp_path):
    (tmp_path / "x.json").mkdir()
    with pytest.raises(SpecError, match="no regular file"):
        files.write_text(tmp_path / "x.json", "{}")
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_full_disk_is_told_and_leaves_no_half_file(tmp_path, monkeypatch):
    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:1])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(SpecError, match="No space left on device"):
        files.write_bytes(tmp_path / "x", b"abc")
    assert list(tmp_path.iterdir()) == []


def test_an_os_error_without_a_name_is_told_by_its_text(tmp_path):
    with pytest.raises(SpecError, match="odd"), files.replacing(tmp_path / "x"):
        raise OSError("odd")


@given(VALUES)
def test_json_is_strict_and_keeps_every_value_that_json_knows(value):
    text = files.to_json(value)
    assert text.endswith("\n")
    read = json.loads(text, parse_constant=refuse)
    assert read == files.strict(value)


@given(st.floats())
def test_only_numbers_that_json_knows_survive(value):
    assert files.strict(value) == (value if math.isfinite(value) else None)


def test_strict_walks_tuples_and_names():
    assert files.strict({1: (1.5, math.nan), "a": [math.inf, {"b": -math.inf}]}) == {
        "1": [1.5, None],
        "a": [None, {"b": None}],
    }
    assert files.to_json({"a": "ü"}) == '{\n  "a": "ü"\n}\n'


@given(st.binary(max_size=200))
def test_hash_and_compressed_size(content):
    assert files.sha256(content) == hashlib.sha256(content).hexdigest()
    assert files.gzip_size(content) == len(gzip.compress(content, 9, mtime=0))


def test_compression_is_the_closest_that_gzip_has():
    text = Path(__file__).read_bytes()
    assert files.gzip_size(text) < len(gzip.compress(text, 1))


def test_numbers_take_one_line_and_text_that_looks_like_them_stays():
    value = {"samples": [1.5, -2, 3e-7], "text": "[\n 1,\n 2\n]", "names": ["1", "2"], "none": []}
    text = files.to_json(value)
    assert '"samples": [1.5, -2, 3e-07]' in text
    assert json.loads(text) == value


def test_a_link_is_followed_and_what_is_no_file_is_left_alone(tmp_path):
    real, link, pipe = tmp_path / "real", tmp_path / "link", tmp_path / "pipe"
    real.write_text("old")
    link.symlink_to(real)
    files.write_text(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(SpecError, match="no regular file"):
            files.write_text(path, "x")
    assert pipe.is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe", "real"]


def test_names_that_no_file_can_have(tmp_path):
    long = tmp_path / ("n" * 300)
    assert not files.exists(long)
    for act in (lambda: files.write_text(long, "x"), lambda: files.check_writable(long / "more")):
        with pytest.raises(SpecError, match="cannot write"):
            act()
