"""Operations in the HDF5 files of Keras 3, which forget where an operation's class lives.

``x * 0.5`` is saved as a ``Multiply`` without a module, and Keras takes it for the layer of that
name when it reads the file. An operation's settings lack what every layer's settings have.
"""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

HOMES = ("keras.src.ops.numpy", "keras.src.ops.nn", "keras.src.ops.core", "keras.src.ops.math")


def located(config: Any) -> tuple[Any, int]:
    """(the configuration with a module for each operation, how many there were)."""
    if isinstance(config, list):
        parts = [located(item) for item in config]
        return [part for part, _ in parts], sum(count for _, count in parts)
    if not isinstance(config, dict):
        return config, 0
    items = {key: located(value) for key, value in config.items()}
    made, count = {key: part for key, (part, _) in items.items()}, sum(n for _, n in items.values())
    settings = config.get("config")
    called = "inbound_nodes" in config and "module" not in config
    if called and isinstance(settings, dict) and "trainable" not in settings:
        home = _home(str(config.get("class_name")))
        if home is not None and "layers" not in settings:
            made |= {"module": home, "registered_name": config["class_name"]}
            count += 1
    return made, count


def _home(class_name: str) -> str | None:
    for home in HOMES:
        if isinstance(getattr(importlib.import_module(home), class_name, None), type):
            return home
    return None


def mended(path: Path, config: dict[str, Any], folder: Path) -> Path:
    """``path``, or a copy of it in ``folder`` whose configuration says where operations live."""
    made, count = located(config)
    if not count:
        return path
    import h5py

    copy = folder / "mended.h5"
    shutil.copyfile(path, copy)
    with h5py.File(copy, "r+") as file:
        file.attrs["model_config"] = json.dumps(made)
    return copy
