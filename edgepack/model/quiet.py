"""TensorFlow, brought in without what it says of this machine when it first looks around."""

from __future__ import annotations

import importlib

from edgepack.native import captured


def import_tensorflow() -> None:
    """Import TensorFlow and let it find its devices; what it prints goes to the log."""
    with captured():
        importlib.import_module("tensorflow").config.list_physical_devices()
