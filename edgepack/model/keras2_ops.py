"""Bare TensorFlow functions in a Keras-2 graph, as layers or operations of Keras 3.

A layer is taken where there is one, because compression works on layers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgepack.errors import ModelError

NUMPY, CORE = "keras.src.ops.numpy", "keras.src.ops.core"
MATH = "keras.src.ops.math"
MERGES = {"add": "Add", "subtract": "Subtract", "multiply": "Multiply", "maximum": "Maximum",
          "minimum": "Minimum"}  # fmt: skip
BINARY = MERGES | {"divide": "Divide", "pow": "Power", "matmul": "Matmul"}
UNARY = {
    "abs": (NUMPY, "Absolute"), "square": (NUMPY, "Square"), "sqrt": (NUMPY, "Sqrt"),
    "exp": (NUMPY, "Exp"), "log": (NUMPY, "Log"), "neg": (NUMPY, "Negative"),
    "negative": (NUMPY, "Negative"), "floor": (NUMPY, "Floor"), "sign": (NUMPY, "Sign"),
    "rsqrt": (MATH, "Rsqrt"), "stop_gradient": (CORE, "StopGradient"),
}  # fmt: skip
ACTIVATIONS = {name: name for name in ("relu", "relu6", "sigmoid", "tanh", "softmax", "softplus",
               "elu", "selu", "silu", "gelu", "softsign")} | {"swish": "silu"}  # fmt: skip
REDUCTIONS = {"reduce_mean": "Mean", "reduce_sum": "Sum", "reduce_max": "Max", "reduce_min": "Min"}
SAME = {
    "truediv": "divide", "div": "divide", "realdiv": "divide", "addv2": "add", "add_n": "add",
    "sub": "subtract", "mul": "multiply", "concat_v2": "concat", "transpose_v2": "transpose",
    "squeeze_v2": "squeeze", "expand_dims_v2": "expand_dims", "softmax_v2": "softmax",
}  # fmt: skip
SECOND = ("y", "b", "x2")
ADJOINT = {"transpose_a", "transpose_b", "adjoint_a", "adjoint_b"}
IDLE = frozenset({"conjugate", "a_is_sparse", "b_is_sparse", "approximate", *ADJOINT})


def tensor(layer: str, node: int, index: int) -> dict[str, Any]:
    """A reference to a layer's output, as Keras 3 writes it."""
    history = {"shape": [], "dtype": "float32", "keras_history": [layer, node, index]}
    return {"class_name": "__keras_tensor__", "config": history}


def is_tensor(value: Any) -> bool:
    """Whether ``value`` is such a reference."""
    return isinstance(value, dict) and value.get("class_name") == "__keras_tensor__"


def function_of(layer: Mapping[str, Any]) -> str:
    """The short name of the TensorFlow function that a layer of calls stands for."""
    settings = layer["config"]
    if layer["class_name"] == "TensorFlowOpLayer":
        node = settings.get("node_def", "")
        found = re.search(
            r"""\bop["']?\s*:\s*["'](\w+)""", node if isinstance(node, str) else repr(node)
        )
        name = found.group(1) if found else ""
        name = {"Mean": "reduce_mean", "Sum": "reduce_sum", "Max": "reduce_max"}.get(name, name)
    else:
        name = str(settings.get("function", "")).rpartition(".")[2]
    name = name.lower() if name[:1].isupper() else name
    return SAME.get(name, name)


def rewrite_call(
    layer: Mapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any], where: Path
) -> dict[str, Any]:
    """A Keras-3 layer entry for one call of a TensorFlow function.

    ``args`` and ``kwargs`` hold tensor references and constants. Raises ModelError for a
    function that has no counterpart here.
    """
    name, function = layer["config"]["name"], function_of(layer)
    operands = list(args)
    options = {
        key: value
        for key, value in kwargs.items()
        if value is not None and key != "name" and not (key in IDLE and value is False)
    }
    for key in ("x", *SECOND):
        if key in options and function in BINARY:
            operands.append(options.pop(key))
    made = _merged(function, operands) or _shaped(function, operands, options)
    if made is None or options:
        raise ModelError(
            f"{where}: layer '{name}' calls tf.{layer['config'].get('function', function)}"
            + (f" with {', '.join(sorted(options))}" if made else "")
            + ", which has no Keras 3 counterpart here",
            "export the model as a SavedModel and give that folder",
        )
    module, class_name, settings, operands = made
    return {
        "module": module,
        "class_name": class_name,
        "config": {"name": name, **settings},
        "registered_name": class_name if module != "keras.layers" else None,
        "name": name,
        "inbound_nodes": [{"args": operands, "kwargs": {}}],
    }


Made = tuple[str, str, dict[str, Any], list[Any]]


def _merged(function: str, operands: list[Any]) -> Made | None:
    """Arithmetic of two operands: a merging layer where both are tensors."""
    if function in MERGES and len(operands) == 2 and all(is_tensor(o) for o in operands):
        return "keras.layers", MERGES[function], {}, [operands]
    if function == "add" and len(operands) == 1 and isinstance(operands[0], list):
        return "keras.layers", "Add", {}, operands
    if function in BINARY and len(operands) == 2:
        return NUMPY, BINARY[function], {}, operands
    return None


def _shaped(function: str, operands: list[Any], options: dict[str, Any]) -> Made | None:
    """Functions of one tensor, or of a list of them; takes what it understands from options."""
    layer = "keras.layers"
    if function in UNARY and len(operands) == 1:
        return *UNARY[function], {}, operands
    if function in ACTIVATIONS:
        if function == "softmax" and options.get("axis", -1) != -1:
            return layer, "Softmax", {"axis": options.pop("axis")}, operands
        options.pop("axis", None)
        options.pop("beta", None) if options.get("beta") == 1.0 else None
        return layer, "Activation", {"activation": ACTIVATIONS[function]}, operands
    if function == "leaky_relu":
        return layer, "LeakyReLU", {"negative_slope": options.pop("alpha", 0.2)}, operands
    if function == "concat":
        axis = options.pop("axis", operands.pop() if len(operands) > 1 else -1)
        values = options.pop("values", None)
        return layer, "Concatenate", {"axis": axis}, operands or [values]
    if function in REDUCTIONS:
        axis = options.pop("axis", operands.pop() if len(operands) > 1 else None)
        keep = bool(options.pop("keepdims", False))
        if function == "reduce_mean" and axis in ([1, 2], [2, 1]):
            return layer, "GlobalAveragePooling2D", {"keepdims": keep}, operands
        return NUMPY, REDUCTIONS[function], {"axis": axis, "keepdims": keep}, operands
    return _moved(function, operands, options)


def _moved(function: str, operands: list[Any], options: dict[str, Any]) -> Made | None:
    """Functions that move values without computing."""
    layer = "keras.layers"
    extra = operands.pop() if len(operands) > 1 else None
    if function == "reshape":
        shape = options.pop("shape", extra)
        if not isinstance(shape, list) or not all(isinstance(size, int) for size in shape):
            return None
        return layer, "Reshape", {"target_shape": shape[1:]}, operands
    if function == "transpose":
        order = options.pop("perm", extra)
        if not isinstance(order, list) or order[:1] != [0]:
            return None
        return layer, "Permute", {"dims": order[1:]}, operands
    if function in ("squeeze", "expand_dims"):
        axis = options.pop("axis", extra)
        kind = "Squeeze" if function == "squeeze" else "ExpandDims"
        return NUMPY, kind, {"axis": axis}, operands
    if function == "cast":
        return CORE, "Cast", {"dtype": options.pop("dtype", extra)}, operands
    if function == "clip_by_value" and {"clip_value_min", "clip_value_max"} <= set(options):
        low, high = options.pop("clip_value_min"), options.pop("clip_value_max")
        return NUMPY, "Clip", {"x_min": low, "x_max": high}, operands
    if function == "identity":
        return layer, "Identity", {}, operands
    if function == "getitem":
        spec = options.pop("slice_spec", extra)
        return NUMPY, "GetItem", {}, [*operands, _slices(spec)]
    return None


def _slices(spec: Any) -> Any:
    """Keras 2's description of ``x[…]`` as Keras 3 writes it."""
    parts = spec if isinstance(spec, list) else [spec]
    made: list[Any] = []
    for part in parts:
        if isinstance(part, dict) and "start" in part:
            made.append({"class_name": "__slice__", "config": part})
        elif isinstance(part, dict) and part.get("class_name") == "__ellipsis__":
            made.append({"class_name": "__ellipsis__", "config": {}})
        else:
            made.append(part.get("value") if isinstance(part, dict) else part)
    return made if isinstance(spec, list) else made[0]
