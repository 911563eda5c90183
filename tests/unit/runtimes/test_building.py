"""Building the program for devices: from nothing, again, and where a tool is missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepack.errors import MeasureError
from edgepack.runtimes import building
from tests.native_program import can_build

ELF_MACHINES = {"x86_64": 62, "aarch64": 183}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "edgepack" / "runners"


@pytest.mark.parametrize("arch", sorted(building.CROSS))
def test_a_program_is_built_once_for_each_arch(
    arch: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if arch != building.here() and arch == "x86_64":
        pytest.skip("x86_64 devices are measured from x86_64 machines")
    can_build(arch)
    monkeypatch.setenv("CFLAGS", "-fno-such-flag")  # another program than the name says
    built = building.program(arch)
    assert int.from_bytes(built.read_bytes()[18:20], "little") == ELF_MACHINES[arch]
    assert built.stat().st_mode & 0o111
    assert [path.name for path in cache.iterdir()] == [built.name]
    before = built.stat().st_mtime_ns
    assert building.program(arch) == built
    assert built.stat().st_mtime_ns == before


def test_other_sources_are_another_program(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = building.here()
    can_build(arch)
    first = building.program(arch)
    shutil.copytree(building.SOURCES, tmp_path / "sources")
    monkeypatch.setattr(building, "SOURCES", tmp_path / "sources")
    assert building.program(arch) == first
    with (tmp_path / "sources" / "main.c").open("a") as file:
        file.write("/* changed */\n")
    assert building.program(arch) != first


def test_the_warnings_are_errors(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    can_build(building.here())
    shutil.copytree(building.SOURCES, tmp_path / "sources")
    monkeypatch.setattr(building, "SOURCES", tmp_path / "sources")
    with (tmp_path / "sources" / "main.c").open("a") as file:
        file.write("char narrow(int wide) { return wide; }\n")
    with pytest.raises(MeasureError, match=r"building the runner: cmake: .*error"):
        building.program(building.here())
    assert not cache.exists()


@pytest.mark.parametrize("arch", sorted(building.CROSS))
def test_without_tools_the_packages_are_named(
    arch: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for act in (building.program, building.libc):
        with pytest.raises(MeasureError, match=f"{building.toolchain(arch).compiler}, which is no"):
            act(arch)
    with pytest.raises(MeasureError) as caught:
        building.program(arch)
    assert "apt install cmake make gcc" in caught.value.hint


def test_without_cmake_it_is_named(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    can_build(building.here())
    gcc = shutil.which("gcc")
    assert gcc is not None
    (tmp_path / "gcc").symlink_to(gcc)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MeasureError, match="needs cmake, which is not installed") as caught:
        building.program(building.here())
    assert "apt install cmake" in caught.value.hint


def test_a_cache_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    can_build(building.here())
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(MeasureError, match="cannot write"):
        building.program(building.here())


def test_a_tool_that_does_not_run_or_fails_is_told(tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("no program")
    (tmp_path / "tool").chmod(0o755)
    with pytest.raises(MeasureError, match="Exec format error"):
        building.said([str(tmp_path / "tool")], "hint")
    (tmp_path / "tool").write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(MeasureError, match="tool: it ended with code 3"):
        building.said([str(tmp_path / "tool")], "hint")


@pytest.mark.parametrize("arch", ["armv7l", "riscv64"])
def test_an_arch_without_a_library_is_refused(arch: str) -> None:
    with pytest.raises(MeasureError, match=f"no library for {arch}") as caught:
        building.program(arch)
    assert "tflite-runtime-python" in caught.value.hint


@pytest.mark.parametrize("arch", sorted(building.CROSS))
def test_the_c_library_is_the_compilers(arch: str) -> None:
    if arch != building.here() and arch == "x86_64":
        pytest.skip("x86_64 devices are measured from x86_64 machines")
    can_build(arch)
    files = building.libc(arch)
    assert [path.name for path in files] == [building.toolchain(arch).loader, *building.LIBC]
    for path in files:
        assert int.from_bytes(path.read_bytes()[18:20], "little") == ELF_MACHINES[arch]


def test_a_missing_file_of_the_c_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    can_build(building.here())
    monkeypatch.setattr(building, "LIBC", ("libnowhere.so.1",))
    with pytest.raises(MeasureError, match=r"has no libnowhere\.so\.1") as caught:
        building.libc(building.here())
    assert "libstdc++6" in caught.value.hint
