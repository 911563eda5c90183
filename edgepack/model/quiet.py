"""TensorFlow, brought in without what it says of this machine, and without what nobody needs."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from edgepack.native import captured


def import_tensorflow() -> None:
    """Import TensorFlow and Keras, and let them find their devices; what is printed is logged.

    They make a million objects that stay: the garbage collector rests meanwhile, and does not
    look at them again, which saves a quarter of the time of what follows.
    """
    if "keras" in sys.modules:
        return
    with captured(), _uncollected(), _absent("sklearn"):
        importlib.import_module("tensorflow").config.list_physical_devices()
        importlib.import_module("keras")


@contextmanager
def _uncollected() -> Iterator[None]:
    """Let the garbage collector rest, and then take what is there for what stays."""
    rested = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if rested:
            gc.enable()


@contextmanager
def _absent(package: str) -> Iterator[None]:
    """Hide a package: Keras brings scikit-learn in, if it is there, for wrappers around it."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
