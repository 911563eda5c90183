"""Rewrite the configuration that Keras 2 wrote into one that Keras 3 reads.

Arguments that Keras 3 no longer has are dropped where they say nothing new, and refused where
they would change the result. Calls of bare TensorFlow functions (``TFOpLambda``) become layers
or operations of Keras 3 (``keras2_ops``). Weights keep their order, so they load unchanged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgepack.errors import ModelError
from edgepack.model.keras2_ops import is_tensor, rewrite_call, tensor

CALLS = frozenset({"TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"})
MODELS = frozenset({"Functional", "Model", "Sequential"})
GRAPHS = frozenset({"Functional", "Model"})
ALIASES = {
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "CuDNNGRU": "GRU",
    "CuDNNLSTM": "LSTM",
    "GRUV2": "GRU",
    "LSTMV2": "LSTM",
    "SyncBatchNormalization": "BatchNormalization",
}
WITHOUT_GROUPS = ("Depthwise", "Separable", "Transpose")
KERNELS = frozenset({"kernel_initializer", "kernel_regularizer", "kernel_constraint"})
OF_LAMBDA = frozenset({"module", "function_type", "output_shape_type", "output_shape_module"})
ANY = object()
GONE: dict[str, tuple[Any, ...]] = {
    "time_major": (False, None),
    "ragged": (False, None),
    "autocast": (ANY,),
    "experimental_autocast": (ANY,),
    "implementation": (ANY,),
    "input_length": (ANY,),
    "input_dtype": (ANY,),
    "fused": (ANY,),
    "virtual_batch_size": (None,),
    "adjustment": (None,),
    "batch_input_shape": (ANY,),
    "input_shape": (ANY,),
    "input_dim": (ANY,),
    "input_tensor": (None,),
    "query_shape": (ANY,),
    "key_shape": (ANY,),
    "value_shape": (ANY,),
    "softmax_robust_masking": (False, None),
    "type_spec": (None,),
}
HAS_INPUT_DIM = frozenset({"Embedding"})


def written_by_keras2(version: object) -> bool:
    """Whether a file's ``keras_version`` is older than 3 (or not given, as in old files)."""
    text = version.decode() if isinstance(version, bytes) else str(version or "2")
    return not text.split(".")[0].isdigit() or int(text.split(".")[0]) < 3


def rewrite(config: dict[str, Any], where: Path) -> dict[str, Any]:
    """The configuration of a Keras-2 model, Sequential or functional, in the form of Keras 3.

    Raises ModelError for a damaged one, and for a setting or a function that Keras 3 cannot
    express.
    """
    try:
        return _rewritten(config, where)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as exc:
        raise ModelError(
            f"{where}: its configuration is damaged: {type(exc).__name__} {exc}",
            "save the model again",
        ) from exc


def _rewritten(config: dict[str, Any], where: Path) -> dict[str, Any]:
    class_name = ALIASES.get(config["class_name"], config["class_name"])
    settings = config.get("config")
    if isinstance(settings, list):
        settings = {"name": "sequential", "layers": settings}
    if not isinstance(settings, dict):
        raise ModelError(f"{where}: {class_name} has no settings", "save the model again")
    if class_name in MODELS and "layers" not in settings:
        raise ModelError(
            f"{where}: a subclassed model, whose file holds no layers",
            "export it as a SavedModel (model.export(folder)) and give that folder",
        )
    if class_name == "Sequential":
        return _made(class_name, _sequential(settings, where), config)
    if class_name in MODELS:
        return _made("Functional", _functional(settings, where), config)
    return _made(class_name, _layer(class_name, settings, where), config)


def _made(class_name: str, settings: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """A Keras-3 object. A custom one keeps the name that it was registered under."""
    module = {"Functional": "keras.src.models.functional", "Sequential": "keras"}.get(
        class_name, "keras.layers"
    )
    registered = old.get("registered_name")
    custom = isinstance(registered, str) and ">" in registered
    if custom or ">" in class_name:
        name = registered if custom else class_name
        plain = class_name.rpartition(">")[2]
        return {"module": None, "class_name": plain, "config": settings, "registered_name": name}
    return {
        "module": module,
        "class_name": class_name,
        "config": settings,
        "registered_name": class_name,
    }


def _sequential(settings: dict[str, Any], where: Path) -> dict[str, Any]:
    layers: list[dict[str, Any]] = []
    for old in settings["layers"]:
        inside = old.get("config", {})
        shape = inside.get("batch_input_shape") if isinstance(inside, dict) else None
        if not layers and shape is not None and old["class_name"] != "InputLayer":
            first = {"batch_shape": shape, "dtype": "float32", "name": f"{inside['name']}_input"}
            layers.append(_made("InputLayer", first, {}))
        layers.append(_rewritten(old, where))
    return {"name": settings.get("name", "sequential"), "layers": layers}


def _functional(settings: dict[str, Any], where: Path) -> dict[str, Any]:
    names = {layer["name"] for layer in settings["layers"]}
    built = {layer["name"] for layer in settings["layers"] if _starts_at_one(layer)}
    nested = {layer["name"] for layer in settings["layers"] if layer["class_name"] in GRAPHS}
    layers = []
    for old in settings["layers"]:
        calls = [_call(node, names, built | nested, old) for node in old.get("inbound_nodes", [])]
        if old["class_name"] in CALLS:
            if len(calls) != 1:
                raise ModelError(f"{where}: '{old['name']}' is called {len(calls)} times", "")
            layers.append(rewrite_call(old, *calls[0], where))
            continue
        made = _rewritten(old, where)
        made["name"] = old["name"]
        made["inbound_nodes"] = [
            {"args": args, "kwargs": {k: v for k, v in kwargs.items() if v is not None}}
            for args, kwargs in calls
        ]
        layers.append(made)
    ends = {key: _ends(settings[key], names, built) for key in ("input_layers", "output_layers")}
    return {"name": settings.get("name", "model"), "layers": layers, **ends}


def _starts_at_one(layer: dict[str, Any]) -> bool:
    """Whether a nested Sequential had an input: Keras 2 counts its construction as node 0.

    So it does for a functional model, and there Keras 3 still does so for outputs.
    """
    if layer["class_name"] != "Sequential":
        return False
    inside = layer["config"]
    first = (inside if isinstance(inside, list) else inside.get("layers", [{}]))[:1]
    return any(
        item.get("class_name") == "InputLayer" or "batch_input_shape" in item.get("config", {})
        for item in first
    )


def _ends(value: Any, names: set[str], skewed: set[str]) -> Any:
    """Inputs or outputs of a model: references, alone or in lists and dictionaries."""
    if _is_reference(value, names):
        return [value[0], value[1] - (value[0] in skewed), value[2]]
    if isinstance(value, dict):
        return {key: _ends(item, names, skewed) for key, item in value.items()}
    return [_ends(item, names, skewed) for item in value]


def _is_reference(value: Any, names: set[str]) -> bool:
    return (
        isinstance(value, list)
        and len(value) >= 3
        and isinstance(value[0], str)
        and value[0] in names
        and all(isinstance(index, int) for index in value[1:3])
    )


def _call(
    node: Any, names: set[str], skewed: set[str], layer: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Arguments of one call of a layer, with references to tensors in Keras 3's form."""

    def converted(value: Any) -> Any:
        if _is_reference(value, names):
            return tensor(value[0], value[1] - (value[0] in skewed), value[2])
        if isinstance(value, list) and value[:1] == ["_CONSTANT_VALUE"]:
            return value[2]
        if isinstance(value, list):
            return [converted(item) for item in value]
        if isinstance(value, dict):
            return {key: converted(item) for key, item in value.items()}
        return value

    if isinstance(node, dict):
        return converted(node.get("args", [])), converted(node.get("kwargs", {}))
    flat = bool(node) and isinstance(node[0], str)
    parts = [node] if flat else node
    kwargs: dict[str, Any] = {}
    for part in parts:
        kwargs |= part[3] if len(part) > 3 and isinstance(part[3], dict) else {}
    values = [converted(part) for part in parts]
    kwargs = {key: converted(value) for key, value in kwargs.items()}
    if layer["class_name"] == "TensorFlowOpLayer":
        for index, value in sorted((layer["config"].get("constants") or {}).items()):
            values.insert(int(index), value)
        return values, kwargs
    if layer["class_name"] in CALLS and flat:
        return values, kwargs
    return [values[0] if len(values) == 1 else values], kwargs


def _layer(class_name: str, settings: dict[str, Any], where: Path) -> dict[str, Any]:
    """A layer's settings without what Keras 3 does not know."""
    kept: dict[str, Any] = {}
    if class_name == "Lambda":
        return _lambda(settings)
    shape = settings.get("batch_input_shape")
    if class_name == "InputLayer" and shape is not None:
        kept["batch_shape"] = shape
    for key, value in settings.items():
        if key in GONE and not (key == "input_dim" and class_name in HAS_INPUT_DIM):
            if not any(value is neutral or neutral is ANY for neutral in GONE[key]):
                raise ModelError(
                    f"{where}: layer '{settings.get('name')}' has {key} = {value!r}, "
                    "which Keras 3 does not know",
                    "export the model as a SavedModel and give that folder",
                )
            continue
        if key == "groups" and any(part in class_name for part in WITHOUT_GROUPS):
            continue
        if key in KERNELS and class_name.startswith(("Depthwise", "Separable")):
            continue
        kept[key] = _value(key, value, where)
    return kept


def _lambda(settings: dict[str, Any]) -> dict[str, Any]:
    """A Lambda, which only reaches this point when the user trusts it."""
    kept = {key: value for key, value in settings.items() if key not in OF_LAMBDA}
    kept.pop("batch_input_shape", None)
    for key in ("function", "output_shape"):
        if settings.get(f"{key}_type") == "lambda" and isinstance(kept.get(key), list):
            code, defaults, closure = kept[key]
            parts = {"code": code, "defaults": defaults, "closure": closure}
            kept[key] = {"class_name": "__lambda__", "config": parts}
    return kept


def _value(key: str, value: Any, where: Path) -> Any:
    """One setting: nested layers are rewritten, old forms of plain values brought up to date."""
    if key == "axis" and isinstance(value, list) and len(value) == 1:
        return value[0]
    if isinstance(value, dict) and "class_name" in value and not is_tensor(value):
        if value["class_name"] in ("Policy", "PolicyV1"):
            return value["config"]["name"]
        if key in ("layer", "backward_layer", "cell", "cells"):
            return _rewritten(value, where)
        if key.endswith("_initializer") or key.endswith(("_regularizer", "_constraint")):
            return _named(key, value)
    if key == "cells" and isinstance(value, list):
        return [_rewritten(cell, where) for cell in value]
    if isinstance(value, dict) and value.get("type") == "ndarray":
        return value.get("value")
    return value


def _named(key: str, value: dict[str, Any]) -> dict[str, Any]:
    """An initialiser, regulariser or constraint, with the module that it now lives in."""
    package = {"initializer": "initializers", "regularizer": "regularizers"}.get(
        key.rpartition("_")[2], "constraints"
    )
    settings = {k: v for k, v in (value.get("config") or {}).items() if k != "dtype"}
    class_name = {"L1L2": "L1L2"}.get(value["class_name"], value["class_name"])
    return {
        "module": f"keras.{package}",
        "class_name": class_name,
        "config": settings,
        "registered_name": value.get("registered_name"),
    }
