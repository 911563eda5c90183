"""LiteRT's C library for a device's arch: the installed package's own, or a wheel's."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
import tempfile
import zipfile
from pathlib import Path

from platformdirs import user_cache_path

from edgepack.errors import MeasureError, SpecError
from edgepack.files import replacing
from edgepack.runtimes import building, delivery, tables

RUNTIME = "litert-2.3"
MEMBER = "ai_edge_litert/libLiteRt.so"
GLIBC = (2, 31)
"""Wheels for up to this version are looked for; the library in them needs 2.27."""


def version() -> str:
    """The version of LiteRT that devices get."""
    return tables.load(RUNTIME).version


def library(arch: str) -> Path:
    """The path of ``libLiteRt.so`` for an arch.

    Raises MeasureError where there is none, or its wheel cannot be downloaded.
    """
    if arch == building.here() and (installed := _installed()):
        return installed
    place = user_cache_path("edgepack") / "libraries" / f"libLiteRt-{version()}-{arch}.so"
    if not place.is_file():
        try:
            with replacing(place) as temporary:
                temporary.write_bytes(_downloaded(arch))
        except SpecError as error:
            raise MeasureError(error.message, "free some room in the cache folder") from error
    return place


def _installed() -> Path | None:
    """The file of the package beside edgepack, if it is of the very version."""
    found = importlib.util.find_spec("ai_edge_litert")
    if found is None or found.origin is None:
        return None
    if importlib.metadata.version("ai-edge-litert") != version():
        return None
    path = Path(found.origin).with_name("libLiteRt.so")
    return path if path.is_file() else None


def _downloaded(arch: str) -> bytes:
    """The library in the wheel for this host's Python version on a device's arch."""
    python = delivery.DevicePython(version=sys.version_info[:2], arch=arch, glibc=GLIBC)
    wanted = (f"{tables.load(RUNTIME).package}=={version()}",)
    with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
        delivery.download(wanted, python, GLIBC, Path(folder))
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            if MEMBER not in archive.namelist():
                raise MeasureError(f"{wheel.name} holds no {MEMBER}", "choose another runner")
            return archive.read(MEMBER)
