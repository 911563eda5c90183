"""Read a model's configuration before Keras does, and refuse what could run code.

Keras rebuilds objects from the JSON in a model file. Lambda layers carry marshalled bytecode,
some layers read other files, and references to functions have been a way into the process.
Only what edgepack knows to be plain layers and functions of Keras passes without a flag.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgepack.errors import ModelError

LAMBDAS = frozenset({"Lambda", "__lambda__"})
READS_FILES = frozenset({"TFSMLayer", "TorchModuleWrapper", "FlaxLayer", "JaxLayer"})
PLAIN_MODULES = (
    "builtins",
    "keras",
    "tf_keras",
    "tensorflow.keras",
    "tensorflow.python.keras",
    "tensorflow.python.framework",
)
FUNCTION_MODULES = (
    "builtins",
    "keras.activations",
    "keras.constraints",
    "keras.initializers",
    "keras.losses",
    "keras.metrics",
    "keras.ops",
    "keras.regularizers",
    "keras.src.activations",
    "keras.src.ops",
    "tf_keras",
)
REFUSED_MODULES = (
    "keras.config",
    "keras.datasets",
    "keras.export",
    "keras.saving",
    "keras.utils",
    "keras.src.export",
    "keras.src.saving",
    "keras.src.utils",
)
DEEPEST = 200


def screen(config: Any, where: Path, *, allow_lambda: bool = False, code: bool = False) -> None:
    """Look at every object in a model's configuration.

    Raises ModelError that names the flag: ``--allow-lambda`` for Lambda layers and pickled
    functions, ``--custom-objects`` for objects from elsewhere than Keras. Objects that read other
    files or belong to Keras's tools rather than its layers are refused in any case.
    """
    for item, layer in _objects(config, "", 0, where):
        class_name = item.get("class_name")
        if not isinstance(class_name, str):
            raise ModelError(f"{where}: an object without a class name", "the file is damaged")
        registered = item.get("registered_name")
        names = {class_name, str(registered).rpartition(">")[2]}
        if names & LAMBDAS and not allow_lambda:
            raise ModelError(
                f"{where}: layer '{layer}' is a Lambda, which can run any code on this machine",
                "pass --allow-lambda if you trust the file, or replace it by a Keras layer",
            )
        if names & READS_FILES:
            raise ModelError(
                f"{where}: layer '{layer}' ({class_name}) loads code or files from elsewhere",
                "export the model with plain Keras layers, or as a SavedModel",
            )
        _screen_module(item, layer, where, code)
        settings = item.get("config")
        if isinstance(settings, dict) and isinstance(settings.get("vocabulary"), str):
            raise ModelError(
                f"{where}: layer '{layer}' reads its vocabulary from a file",
                "save the model with the vocabulary inside",
            )


def _screen_module(item: dict[str, Any], layer: str, where: Path, code: bool) -> None:
    """Refuse references to modules that are not Keras's layers and functions."""
    module = item.get("module")
    if module is None:
        return
    if not isinstance(module, str) or _within(module, REFUSED_MODULES):
        raise ModelError(
            f"{where}: '{layer}' refers to {module}, which is no part of a model",
            "the file is damaged or was made to do harm: get it from its source again",
        )
    function = item.get("class_name") == "function"
    allowed = FUNCTION_MODULES if function else PLAIN_MODULES
    if not _within(module, allowed) and not code:
        what = item.get("config") if function else item.get("class_name")
        raise ModelError(
            f"{where}: '{layer}' needs the custom object '{what}' from {module}",
            "pass --custom-objects FILE.py with the file that defines it",
        )


def _within(module: str, parents: tuple[str, ...]) -> bool:
    return any(module == parent or module.startswith(f"{parent}.") for parent in parents)


def _objects(
    value: Any, layer: str, depth: int, where: Path
) -> Iterator[tuple[dict[str, Any], str]]:
    """Every serialised object below ``value``, with the name of the layer it stands in."""
    if depth > DEEPEST:
        raise ModelError(f"{where}: its configuration is nested deeper than {DEEPEST} levels")
    if isinstance(value, dict):
        if "class_name" in value:
            settings = value.get("config")
            named = settings.get("name") if isinstance(settings, dict) else value.get("name")
            layer = str(named or value.get("name") or layer or value["class_name"])
            yield value, layer
        for child in value.values():
            yield from _objects(child, layer, depth + 1, where)
    elif isinstance(value, list):
        for child in value:
            yield from _objects(child, layer, depth + 1, where)
