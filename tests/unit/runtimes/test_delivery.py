"""Which wheels a device gets, and what becomes of them."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgepack.errors import MeasureError
from edgepack.runtimes import delivery
from edgepack.runtimes.delivery import DevicePython

PI = DevicePython(version=(3, 11), arch="aarch64", glibc=(2, 36))


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(delivery, "user_cache_path", lambda name: tmp_path / name)
    return tmp_path / "edgepack" / "bundles"


class Pip:
    """What pip does, without a network."""

    def __init__(self, returncode: int = 0, stderr: str = "") -> None:
        self.calls: list[list[str]] = []
        self.returncode, self.stderr = returncode, stderr

    def __call__(self, argv: list[str], **_: Any) -> Any:
        self.calls.append(argv)
        folder = Path(argv[argv.index("--dest") + 1])
        members = {
            "numpy/__init__.py": "x = 1",
            "numpy/tests/test.py": "",
            "numpy/x.h": "",
            "d/": "",
        }
        with zipfile.ZipFile(folder / "numpy.whl", "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return subprocess.CompletedProcess(argv, self.returncode, "", self.stderr)


@pytest.mark.parametrize(
    ("machine", "bits", "expected"),
    [
        ("x86_64", 64, "x86_64"),
        ("AMD64", 64, "x86_64"),
        ("aarch64", 64, "aarch64"),
        ("aarch64", 32, "armv7l"),
        ("armv8l", 32, "armv7l"),
        ("armv7l", 32, "armv7l"),
        ("riscv64", 64, "riscv64"),
    ],
)
def test_a_64_bit_kernel_may_serve_a_32_bit_userland(
    machine: str, bits: int, expected: str
) -> None:
    assert delivery.arch(machine, bits) == expected


def test_what_is_lacking() -> None:
    assert delivery.requirements("litert-2.3", PI) == ("ai-edge-litert==2.3.0", "numpy>=1.23.2")
    with_two = replace(PI, numpy="2.1.0")
    assert delivery.requirements("litert-2.3", with_two) == ("ai-edge-litert==2.3.0",)
    wanted = ("tflite-runtime==2.14.0", "numpy>=1.23.2,<2")
    assert delivery.requirements("tflite-runtime-2.14", with_two) == wanted
    with_one = replace(PI, numpy="1.26.4", arch="armv7l")
    assert delivery.requirements("tflite-runtime-2.14", with_one) == wanted[:1]


@pytest.mark.parametrize(
    ("runtime", "python", "message", "hint"),
    [
        ("litert-2.3", replace(PI, arch="armv7l"), "no wheels for armv7l", "tflite-runtime-2.14"),
        ("litert-2.3", replace(PI, arch="riscv64"), "no wheels for riscv64", "x86_64, aarch64"),
        ("litert-2.3", replace(PI, glibc=None), "does not use glibc", "on the device"),
        ("tflite-runtime-2.14", replace(PI, arch="armv7l"), "none is installed", "python3-numpy"),
        (
            "tflite-runtime-2.14",
            replace(PI, arch="armv7l", numpy="2.0.1"),
            "2.0.1 is installed",
            "python3-numpy",
        ),
        ("tflm", PI, "cannot be delivered", "another runner"),
    ],
)
def test_what_cannot_be_delivered(runtime: str, python: Any, message: str, hint: str) -> None:
    with pytest.raises(MeasureError) as caught:
        delivery.requirements(runtime, python)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_bundle_is_made_once_without_what_nobody_needs(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    pip = Pip()
    monkeypatch.setattr(subprocess, "run", pip)
    archive = delivery.bundle("litert-2.3", PI)
    assert delivery.bundle("litert-2.3", PI) == archive
    assert archive.parent == cache
    (argv,) = pip.calls
    assert argv[:4] == [sys.executable, "-m", "pip", "download"]
    assert argv[-2:] == ["ai-edge-litert==2.3.0", "numpy>=1.23.2"]
    assert "manylinux_2_36_aarch64" in argv
    assert "manylinux_2_37_aarch64" not in argv
    with tarfile.open(archive) as members:
        assert members.getnames() == ["numpy/__init__.py"]
    other = delivery.bundle("litert-2.3", replace(PI, version=(3, 12)))
    assert other != archive


def test_a_bundle_unpacks_into_the_cache_once(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(subprocess, "run", Pip())
    place = delivery.folder("litert-2.3", PI)
    assert (place / "numpy" / "__init__.py").read_text() == "x = 1"
    assert delivery.folder("litert-2.3", PI) == place
    assert len(list(cache.iterdir())) == 2


def test_another_process_may_be_faster(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(subprocess, "run", Pip())
    renamed = Path.rename

    def raced(self: Path, target: Path) -> Path:
        (target / "numpy").mkdir(parents=True)
        return renamed(self, target)

    monkeypatch.setattr(Path, "rename", raced)
    place = delivery.folder("litert-2.3", PI)
    assert (place / "numpy").is_dir()
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize(
    ("stderr", "told"),
    [("noise\nERROR: No matching distribution\nmore", "ERROR: No matching"), ("", "pip failed")],
)
def test_pips_failure_is_one_line(monkeypatch: pytest.MonkeyPatch, stderr: str, told: str) -> None:
    monkeypatch.setattr(subprocess, "run", Pip(returncode=1, stderr=stderr))
    with pytest.raises(MeasureError, match=r"for Python 3\.11 on aarch64") as caught:
        delivery.bundle("litert-2.3", PI)
    assert told in caught.value.message
    assert "\n" not in caught.value.message


def test_an_endless_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(argv: list[str], **_: Any) -> Any:
        raise subprocess.TimeoutExpired(argv, 600)

    monkeypatch.setattr(subprocess, "run", hangs)
    with pytest.raises(MeasureError, match="10 minutes"):
        delivery.bundle("litert-2.3", PI)


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil"])
def test_a_wheel_that_leaves_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "evil.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(MeasureError, match=r"evil\.whl holds an unsafe path"):
        delivery.packed([path])


def test_the_same_wheels_give_the_same_bytes(tmp_path: Path) -> None:
    first = tmp_path / "a.whl"
    with zipfile.ZipFile(first, "w") as archive:
        archive.writestr("b.py", "2")
        archive.writestr("a.py", "1")
    content = delivery.packed([first])
    assert content == delivery.packed([first])
    with tarfile.open(fileobj=io.BytesIO(content)) as members:
        assert members.getnames() == ["a.py", "b.py"]
