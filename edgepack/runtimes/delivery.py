"""Bring a runtime to a Python that has none: wheels chosen here, one archive, no pip there.

A bundle is a ``.tar.gz`` of what the wheels of a runtime (and of numpy, where that is missing
too) unpack to, without what an interpreter does not need. Its folder, put in ``PYTHONPATH``,
is all that a device needs. Bundles stay in the user's cache folder.
"""

from __future__ import annotations

import gzip
import io
import logging
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from platformdirs import user_cache_path

from edgepack.errors import MeasureError
from edgepack.files import replacing, sha256
from edgepack.runtimes import tables

log = logging.getLogger(__name__)

MODULES = {"ai-edge-litert": "litert", "tflite-runtime": "tflite-runtime"}
NUMPY = {"ai-edge-litert": "numpy>=1.23.2", "tflite-runtime": "numpy>=1.23.2,<2"}
UNNEEDED = (
    "*.pyi", "*.h", "*.a", "*/tests/*", "numpy/f2py/*", "numpy/distutils/*",
    "ai_edge_litert/aot/*", "ai_edge_litert/tools/*", "ai_edge_litert/vendors/*",
    "ai_edge_litert/libLiteRtWebGpuAccelerator.so", "ai_edge_litert/libLiteRt.so",
)  # fmt: skip
OLDEST_GLIBC = 17
"""The minor version of the glibc that the oldest wheels still in use were built for."""


@dataclass(frozen=True, kw_only=True)
class DevicePython:
    """A Python on a device: ``arch`` as in a target, ``glibc`` None where it has another libc."""

    version: tuple[int, int]
    arch: str
    glibc: tuple[int, int] | None
    numpy: str | None = None


def arch(machine: str, bits: int) -> str:
    """A target's arch from the kernel's machine: a 64-bit kernel may serve a 32-bit userland."""
    if machine in ("aarch64", "arm64", "armv8l", "armv7l"):
        return "aarch64" if bits == 64 and machine != "armv7l" else "armv7l"
    return {"AMD64": "x86_64"}.get(machine, machine)


def requirements(runtime_id: str, python: DevicePython) -> tuple[str, ...]:
    """What a Python lacks to run the runtime: the runtime, and numpy unless it suits.

    Raises MeasureError where no wheels exist for that Python.
    """
    table = tables.load(runtime_id)
    where = f"Python {python.version[0]}.{python.version[1]} on {python.arch}"
    if table.package not in MODULES:
        raise MeasureError(f"{table.name} cannot be delivered to a device", "choose another runner")
    if python.glibc is None:
        raise MeasureError(
            f"no wheels of {table.package} for {where}: it does not use glibc",
            f"install {table.package} on the device by its own means",
        )
    if table.arches and python.arch not in table.arches:
        raise MeasureError(
            f"{table.package} {table.version} has no wheels for {python.arch}",
            "use the runtime tflite-runtime-2.14"
            if python.arch == "armv7l"
            else f"{table.package} exists for " + ", ".join(table.arches),
        )
    wanted = f"{table.package}=={table.version}"
    if numpy_suits(table.package, python.numpy):
        return (wanted,)
    if python.arch == "armv7l":
        raise MeasureError(
            f"numpy has no wheels for {where}, and {python.numpy or 'none'} is installed there",
            "on the device: apt install python3-numpy (a version below 2 for tflite-runtime)",
        )
    return wanted, NUMPY[table.package]


def numpy_suits(package: str, version: str | None) -> bool:
    """Whether a device's own numpy can serve the runtime."""
    return version is not None and (package != "tflite-runtime" or version.startswith("1."))


def bundle(runtime_id: str, python: DevicePython) -> Path:
    """The archive of what a Python lacks, from the cache or freshly made.

    Raises MeasureError where the wheels do not exist or cannot be downloaded.
    """
    wanted = requirements(runtime_id, python)
    major, minor = python.version
    glibc = python.glibc or (2, OLDEST_GLIBC)
    key = sha256(repr((wanted, python.version, python.arch, glibc, UNNEEDED)).encode())[:16]
    archive = cache() / f"{runtime_id}-cp{major}{minor}-{python.arch}-{key}.tar.gz"
    if not archive.is_file():
        with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
            download(wanted, python, glibc, Path(folder))
            content = packed(sorted(Path(folder).glob("*.whl")))
        with replacing(archive) as temporary:
            temporary.write_bytes(content)
    return archive


def folder(runtime_id: str, python: DevicePython) -> Path:
    """A bundle unpacked into the cache, for a Python of this host."""
    archive = bundle(runtime_id, python)
    place = archive.with_name(archive.name.removesuffix(".tar.gz"))
    if not place.is_dir():
        with tempfile.TemporaryDirectory(dir=archive.parent) as temporary:
            with tarfile.open(archive) as members:
                members.extractall(temporary, filter="data")
            try:
                Path(temporary).rename(place)
            except OSError:  # another process was faster: its folder holds the same
                log.debug("%s is there already", place)
            Path(temporary).mkdir(exist_ok=True)
    return place


def cache() -> Path:
    """Where bundles stay."""
    return user_cache_path("edgepack") / "bundles"


def download(
    wanted: tuple[str, ...], python: DevicePython, glibc: tuple[int, int], into: Path
) -> None:
    """The wheels by this host's pip, for the device's Python. Raises MeasureError."""
    version = f"{python.version[0]}{python.version[1]}"
    platforms = [
        f"manylinux_2_{minor}_{python.arch}" for minor in range(OLDEST_GLIBC, glibc[1] + 1)
    ]
    platforms += [f"manylinux2014_{python.arch}", f"linux_{python.arch}"]
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    argv += ["--no-deps", "--only-binary=:all:", "--dest", str(into), "--retries", "2"]
    argv += ["--implementation", "cp", "--python-version", version, "--abi", f"cp{version}"]
    argv += [part for name in platforms for part in ("--platform", name)]
    log.info("downloading %s for Python %s on %s", ", ".join(wanted), version, python.arch)
    try:
        done = subprocess.run(
            [*argv, *wanted], capture_output=True, text=True, timeout=600, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise MeasureError(f"downloading {wanted[0]} took over 10 minutes") from error
    if done.returncode:
        complaints = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise MeasureError(
            f"no wheels of {' and '.join(wanted)} for Python {python.version[0]}."
            f"{python.version[1]} on {python.arch}: "
            + (complaints or done.stderr.splitlines() or ["pip failed"])[-1],
            "another Python may have them (options.python); else check this machine's network "
            "and pip, or install the runtime on the device",
        )


def packed(wheels: list[Path]) -> bytes:
    """One ``.tar.gz`` of what the wheels unpack to, the same bytes for the same wheels.

    Raises MeasureError where a wheel holds a path that leaves its folder.
    """
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as members:
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                for name in sorted(archive.namelist()):
                    if name.endswith("/") or any(fnmatch(name, unneeded) for unneeded in UNNEEDED):
                        continue
                    path = PurePosixPath(name)
                    if path.is_absolute() or ".." in path.parts:
                        raise MeasureError(f"{wheel.name} holds an unsafe path: {name}")
                    content = archive.read(name)
                    member = tarfile.TarInfo(name)
                    member.size, member.mode = len(content), 0o644
                    members.addfile(member, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), 6, mtime=0)
