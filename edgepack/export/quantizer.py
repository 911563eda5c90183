"""litert-quantizer as one function: float bytes, a plan and ranges in, quantised bytes out."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import ModelError
from edgepack.export import flatbuffer
from edgepack.export.calibrate import Range, calibration_result
from edgepack.export.plan import Assigned
from edgepack.native import captured

UNIFORM = "min_max_uniform_quantize"
CASTABLE = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D_TRANSPOSE",
            "EMBEDDING_LOOKUP")  # fmt: skip
FOUR_BITS = ("FULLY_CONNECTED", "CONV_2D")
THEIR_NAMES = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}
Entry = dict[str, Any]


class QuantizerFailed(ModelError):
    """litert-quantizer cannot make the scheme; another tool may."""


def quantised(
    content: bytes,
    plan: Sequence[Assigned],
    ranges: Mapping[str, Range] | None,
    *,
    io: str,
    per_tensor: Collection[str] = (),
    largest: Mapping[str, NDArray[np.float64]] = MappingProxyType({}),
) -> bytes:
    """``content`` with each operator in its scheme.

    ``ranges`` are those of every activation, None where no scheme needs them; ``io`` is
    ``integer`` or ``float32``; operators in ``per_tensor`` share one scale a weight tensor;
    ``largest`` is the magnitude at which weights saturate, by tensor, where it is not their own.
    Raises QuantizerFailed where litert-quantizer fails.
    """
    with captured():
        from litert_quantizer import quantizer

        try:
            tool = quantizer.Quantizer(content, entries(plan, io, per_tensor))
            result = tool.quantize(
                calibration_result(ranges, largest) if ranges is not None else None,
                enable_progress_report=False,
                enable_progress_bar=False,
            )
        except (ValueError, RuntimeError, KeyError, TypeError, AttributeError, IndexError,
                NotImplementedError) as exc:  # fmt: skip
            reason = (str(exc).splitlines() or [type(exc).__name__])[0][:300]
            raise QuantizerFailed(
                f"litert-quantizer cannot quantise the model: {reason}",
                "choose another scheme, or leave that layer in float32 with a mixed recipe",
            ) from exc
    return bytes(result.quantized_model)


def siblings_alike(content: bytes) -> bytes:
    """A quantised file in which results that nobody reads are of the same type as the others.

    litert-quantizer leaves such a part of a SPLIT in float32, and no runtime computes a mixture.
    """
    tree = flatbuffer.unpacked(content)
    found = False
    for graph in tree.subgraphs:
        read = {int(i) for o in graph.operators or [] for i in o.inputs} | {*graph.outputs}
        for operator in graph.operators or []:
            made = [graph.tensors[i] for i in operator.outputs]
            model = next((t for t in made if flatbuffer.dtype(t) in ("int8", "int16")), None)
            for index, tensor in zip(operator.outputs, made, strict=True):
                if model and index not in read and flatbuffer.dtype(tensor) == "float32":
                    tensor.type, tensor.quantization = model.type, model.quantization
                    found = True
    return flatbuffer.packed(tree) if found else content


def entries(plan: Sequence[Assigned], io: str, per_tensor: Collection[str] = ()) -> list[Entry]:
    """The plan as litert-quantizer's recipe, in which the last entry that fits wins."""
    schemes = {step.scheme for step in plan}
    if len(schemes) == 1:
        scheme = next(iter(schemes))
        return _of_scheme(scheme, ".*", per_tensor) + _ends(scheme, io)
    common = max(sorted(schemes), key=lambda s: sum(step.scheme == s for step in plan))
    made = _of_scheme(common, ".*", per_tensor) + _ends(common, io)
    for step in plan:
        if step.scheme != common:
            scope = f"^{re.escape(step.scope)}$"
            own = [THEIR_NAMES.get(step.op, step.op)]
            made.append(_entry(scope, "*", "no_quantize"))
            made += _of_scheme(step.scheme, scope, per_tensor, own)
    return made


def _of_scheme(
    scheme: str, regex: str, per_tensor: Collection[str], ops: Sequence[str] | None = None
) -> list[Entry]:
    """The entries that put operators (``ops``, by default all) in a regex's scopes in a scheme."""
    if scheme == "float32":
        return [_entry(regex, "*", "no_quantize")]
    if scheme == "float16":
        config = _config(_tensor(16, "FLOAT", "TENSORWISE"), None, "FLOAT")
        return [_entry(regex, op, "float_casting", config) for op in _among(CASTABLE, ops)]
    own = [THEIR_NAMES.get(op, op) for op in sorted(per_tensor)]
    if scheme == "dynamic":
        made = [_entry(regex, "*", UNIFORM, _config(_tensor(8), None))]
        shared = _config(_tensor(8, granularity="TENSORWISE"), None)
        return made + [_entry(regex, op, UNIFORM, shared) for op in _among(own, ops)]
    wide = scheme == "int16x8"
    values = _tensor(16 if wide else 8, granularity="TENSORWISE", symmetric=wide)
    made = [_entry(regex, "*", UNIFORM, _config(_tensor(8), values))]
    shared = _config(_tensor(8, granularity="TENSORWISE"), values)
    made += [_entry(regex, op, UNIFORM, shared) for op in _among(own, ops)]
    if scheme == "int4":
        for op in _among(FOUR_BITS, ops):
            grain = "TENSORWISE" if op in own else "CHANNELWISE"
            narrow = _config(_tensor(4, granularity=grain), values)
            made.append(_entry(regex, op, UNIFORM, narrow))
    return made


def _among(wanted: Sequence[str], ops: Sequence[str] | None) -> list[str]:
    return [op for op in wanted if ops is None or op in ops]


def _ends(scheme: str, io: str) -> list[Entry]:
    """Inputs and outputs: floats where asked for, else as the common scheme's activations."""
    if io != "float32" and scheme in ("int8", "int16x8", "int4"):
        return []
    return [_entry(".*", end, "no_quantize") for end in ("INPUT", "OUTPUT")]


def _entry(regex: str, operation: str, algorithm: str, config: Entry | None = None) -> Entry:
    return {
        "regex": regex,
        "operation": operation,
        "algorithm_key": algorithm,
        "op_config": config or {},
    }


def _config(weights: Entry, activations: Entry | None, precision: str = "INTEGER") -> Entry:
    made: Entry = {
        "weight_tensor_config": weights,
        "compute_precision": precision,
        "explicit_dequantize": precision == "FLOAT",
    }
    return made | ({"activation_tensor_config": activations} if activations else {})


def _tensor(
    bits: int, dtype: str = "INT", granularity: str = "CHANNELWISE", symmetric: bool = True
) -> Entry:
    return {"num_bits": bits, "symmetric": symmetric, "granularity": granularity, "dtype": dtype}
