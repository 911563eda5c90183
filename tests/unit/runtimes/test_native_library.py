"""Where the C library for a device's arch comes from."""

from __future__ import annotations

import importlib.metadata
import zipfile
from pathlib import Path

import pytest

from edgepack.errors import MeasureError
from edgepack.runtimes import building, delivery, native_library
from tests.needs import needs


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "edgepack" / "libraries"


def test_this_machine_has_it_installed(cache: Path) -> None:
    found = native_library.library(building.here())
    assert found.name == "libLiteRt.so"
    assert "ai_edge_litert" in str(found)
    assert not cache.exists()


def test_another_arch_gets_that_of_the_same_version(cache: Path) -> None:
    other = "aarch64" if building.here() != "aarch64" else "x86_64"
    try:
        found = native_library.library(other)
    except MeasureError as error:
        needs(False, f"reach a package index: {error.message}")
        raise
    machine = {"aarch64": 183, "x86_64": 62}[other]
    assert int.from_bytes(found.read_bytes()[18:20], "little") == machine
    assert found == cache / f"libLiteRt-{native_library.version()}-{other}.so"
    before = found.stat().st_mtime_ns
    assert native_library.library(other).stat().st_mtime_ns == before


def test_an_installed_package_of_another_version_is_not_taken(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wheel(wanted: tuple[str, ...], python: object, glibc: object, into: Path) -> None:
        assert wanted == (f"ai-edge-litert=={native_library.version()}",)
        with zipfile.ZipFile(into / "some.whl", "w") as archive:
            archive.writestr(native_library.MEMBER, b"library")

    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.3.99")
    monkeypatch.setattr(delivery, "download", wheel)
    assert native_library.library(building.here()).read_bytes() == b"library"


def test_a_wheel_without_the_library_is_told(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wheel(wanted: object, python: object, glibc: object, into: Path) -> None:
        with zipfile.ZipFile(into / "empty.whl", "w") as archive:
            archive.writestr("nothing", b"")

    monkeypatch.setattr(delivery, "download", wheel)
    with pytest.raises(MeasureError, match=r"empty.whl holds no ai_edge_litert/libLiteRt.so"):
        native_library.library("riscv64")
    assert not list(cache.glob("*"))
