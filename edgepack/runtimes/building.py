"""Build the program that devices without Python run, for the arch of each, by CMake.

It is built on first use and stays in the user's cache folder, under a name that its sources and
its compiler make up. The compiler also knows the C library that the program was linked for, which
a device with another one (Android's bionic, musl, an older glibc) is sent along.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from edgepack.errors import MeasureError, SpecError
from edgepack.files import replacing, sha256
from edgepack.runtimes.delivery import arch as arch_of

log = logging.getLogger(__name__)

SOURCES = Path(__file__).with_name("native")
BUILD_SECONDS = 300.0
LIBC = (
    "libc.so.6",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
    "libstdc++.so.6",
)
"""What libLiteRt.so and the program need of a system, beside the loader."""
FLAGS = ("CFLAGS", "CPPFLAGS", "LDFLAGS", "CMAKE_TOOLCHAIN_FILE", "CMAKE_GENERATOR")
"""Variables that would build another program than the cache's name says."""


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """How to build for an arch: ``loader`` is the name of its ELF interpreter.

    ``packages`` are Debian's for the compiler, ``libraries`` those of the C library's files.
    """

    compiler: str
    loader: str
    packages: str
    libraries: str


CROSS = {
    "aarch64": Toolchain(
        compiler="aarch64-linux-gnu-gcc",
        loader="ld-linux-aarch64.so.1",
        packages="gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
        libraries="libc6-arm64-cross libstdc++6-arm64-cross libgcc-s1-arm64-cross",
    ),
    "x86_64": Toolchain(
        compiler="x86_64-linux-gnu-gcc",
        loader="ld-linux-x86-64.so.2",
        packages="gcc-x86-64-linux-gnu libc6-dev-amd64-cross",
        libraries="libc6-amd64-cross libstdc++6-amd64-cross libgcc-s1-amd64-cross",
    ),
}


def here() -> str:
    """This machine's arch, in a target's words."""
    return arch_of(platform.machine(), 64 if sys.maxsize > 2**32 else 32)


def toolchain(arch: str) -> Toolchain:
    """How to build for an arch; this machine's own compiler where it is the same.

    Raises MeasureError for an arch that there is no libLiteRt.so for.
    """
    if arch not in CROSS:
        raise MeasureError(
            f"LiteRT has no library for {arch}", "use the runner tflite-runtime-python"
        )
    if arch != here():
        return CROSS[arch]
    own = "libc6 libstdc++6 libgcc-s1"
    return Toolchain(
        compiler="gcc", loader=CROSS[arch].loader, packages="gcc libc6-dev", libraries=own
    )


def program(arch: str) -> Path:
    """The runner's program for an arch, from the cache or freshly built.

    Raises MeasureError, naming the packages to install, where it cannot be built.
    """
    chosen = toolchain(arch)
    hint = f"on this machine: apt install cmake make {chosen.packages}"
    compiler = tool(chosen.compiler, hint)
    content = b"".join(path.name.encode() + b"\0" + path.read_bytes() for path in sources())
    key = sha256(content + version(compiler, hint).encode())[:16]
    built = user_cache_path("edgepack") / "runners" / f"litert-{arch}-{key}"
    if not built.is_file():
        log.info("building the runner for %s", arch)
        with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
            made = build(Path(folder), compiler, arch, hint)
            try:
                with replacing(built) as temporary:
                    shutil.copyfile(made, temporary)
                    temporary.chmod(0o755)
            except SpecError as error:
                raise MeasureError(error.message, "free some room in the cache folder") from error
    return built


def libc(arch: str) -> list[Path]:
    """The loader, first, and the C and C++ libraries that the compiler for an arch links with.

    Raises MeasureError, naming the packages to install, where one is missing.
    """
    chosen = toolchain(arch)
    hint = f"on this machine: apt install {chosen.packages} {chosen.libraries}"
    compiler = tool(chosen.compiler, hint)
    found = []
    for name in (chosen.loader, *LIBC):
        path = Path(said([compiler, f"-print-file-name={name}"], hint).strip())
        if not path.is_absolute() or not path.is_file():
            raise MeasureError(f"{chosen.compiler} has no {name} for {arch} devices", hint)
        found.append(path)
    return found


def started(loader: str, folder: str, program: str) -> list[str]:
    """How a loader on a device starts a program with the libraries in a folder there."""
    return [loader, "--library-path", folder, program]


def sources() -> list[Path]:
    """The files that make up the program."""
    kinds = {".c", ".h", ".txt"}
    return sorted(path for path in SOURCES.iterdir() if path.suffix in kinds)


def build(folder: Path, compiler: str, arch: str, hint: str, *options: str) -> Path:
    """The program, built in a folder; ``options`` are CMake's. Raises MeasureError."""
    cmake = tool("cmake", hint)
    argv = [cmake, "-S", str(SOURCES), "-B", str(folder), f"-DCMAKE_C_COMPILER={compiler}"]
    if arch != here():
        argv += ["-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={arch}"]
    said([*argv, *options], hint)
    said([cmake, "--build", str(folder)], hint)
    return folder / "runner"


def tool(name: str, hint: str) -> str:
    """A program's path. Raises MeasureError where it is not installed."""
    found = shutil.which(name)
    if found is None:
        raise MeasureError(f"building the runner needs {name}, which is not installed", hint)
    return found


def version(compiler: str, hint: str) -> str:
    """What a compiler says it is. Raises MeasureError where it does not run."""
    return said([compiler, "--version"], hint)


def said(argv: list[str], hint: str) -> str:
    """What a tool of the build printed. Raises MeasureError in one line where it failed."""
    environment = {name: value for name, value in os.environ.items() if name not in FLAGS}
    environment["LC_ALL"] = "C"
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", timeout=BUILD_SECONDS,
            env=environment, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MeasureError(f"building the runner: {argv[0]}: {error}", hint) from error
    if done.returncode:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
        complaints = [line for line in lines if "rror" in line or "not found" in line] or lines
        reason = complaints[0][:300] if complaints else f"it ended with code {done.returncode}"
        raise MeasureError(f"building the runner: {Path(argv[0]).name}: {reason}", hint)
    return done.stdout
