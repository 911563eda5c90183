"""Of a flatbuffer with one operator: the form it is in, and what it ought to compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.tf.single_ops import TO_KERAS, WEIGHTS_AT, Operator


@dataclass(frozen=True, kw_only=True, order=True)
class Form:
    """The key of a row."""

    op: str
    activations: str
    weights: str
    granularity: str
    version: int


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """A flatbuffer with one operator of interest, unpacked."""

    graph: Any
    buffers: list[Any]
    operator: Any
    version: int
    dequantized: dict[int, int]
    """Output of each DEQUANTIZE operator → its input, both tensor indices."""


def parse(content: bytes, name: str) -> Parsed:
    """Raises LookupError where the exporter has put something else in the operator's place."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    wanted, dequantize = getattr(schema.BuiltinOperator, name), schema.BuiltinOperator.DEQUANTIZE
    found, links = None, {}
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
        if builtin == dequantize:
            links[int(operator.outputs[0])] = int(operator.inputs[0])
        if builtin == wanted:
            found = (operator, int(code.version))
    if found is None:
        raise LookupError(name)
    return Parsed(
        graph=graph,
        buffers=model.buffers,
        operator=found[0],
        version=found[1],
        dequantized=links,
    )


def form(parsed: Parsed, name: str) -> Form:
    """The key of the row that the operator belongs to."""
    at = WEIGHTS_AT.get(name)
    data_at = 2 if name == "TRANSPOSE_CONV" else 0
    weights, granularity = "none", "none"
    if at is not None:
        index = int(parsed.operator.inputs[at])
        source = parsed.dequantized.get(index, index)
        tensor = parsed.graph.tensors[source]
        weights, granularity = _dtype(tensor), _granularity(tensor)
        if source != index and weights.startswith("int"):
            weights += "-dequantize"
    return Form(
        op=name,
        activations=_dtype(parsed.graph.tensors[int(parsed.operator.inputs[data_at])]),
        weights=weights,
        granularity=granularity,
        version=parsed.version,
    )


def reference(
    parsed: Parsed, operator: Operator, built: Any, data: list[np.ndarray]
) -> tuple[list[np.ndarray], np.ndarray, float]:
    """(inputs in the file's dtype, ideal float output, one step of the output's scale or 0).

    ``data`` are arrays (N, 1, *shape) float32, and so is the output. ``built`` is the Keras
    model; its weights are replaced by those of the file.
    """
    if operator.weighted:
        built.set_weights(_weights(parsed, operator.name))
    tensors = parsed.graph.tensors
    inputs, floats = [], []
    for index, array in zip(parsed.graph.inputs, data, strict=True):
        quantized = _quantize(array, tensors[int(index)])
        inputs.append(quantized)
        floats.append(_dequantize(quantized, tensors[int(index)]))
    batches = [array[:, 0] for array in floats]
    ideal = np.asarray(built(batches if len(batches) > 1 else batches[0], training=False))
    output = tensors[int(parsed.graph.outputs[0])]
    if not _is_quantized(output):
        return inputs, ideal[:, None], 0.0
    limits = np.iinfo(_dtype(output))
    ends = _dequantize(np.array([limits.min, limits.max]), output)
    return inputs, np.clip(ideal, *ends)[:, None], float(output.quantization.scale[0])


def values(outputs: np.ndarray, parsed: Parsed) -> np.ndarray:
    """What a runtime returned, as floats."""
    tensor = parsed.graph.tensors[int(parsed.graph.outputs[0])]
    return _dequantize(outputs, tensor)


def _dtype(tensor: Any) -> str:
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name.lower() for name, code in vars(schema.TensorType).items() if name.isupper()}
    return names[tensor.type]


def _is_quantized(tensor: Any) -> bool:
    return tensor.quantization is not None and tensor.quantization.scale is not None


def _granularity(tensor: Any) -> str:
    if getattr(tensor.quantization, "details", None) is not None:
        return "blockwise"
    if not _is_quantized(tensor):
        return "none"
    return "per-channel" if len(tensor.quantization.scale) > 1 else "per-tensor"


def _quantize(array: np.ndarray, tensor: Any) -> np.ndarray:
    if not _is_quantized(tensor):
        return array
    kind = np.dtype(_dtype(tensor))
    scale, zero = tensor.quantization.scale[0], tensor.quantization.zeroPoint[0]
    limits = np.iinfo(kind)
    return np.clip(np.round(array / scale) + zero, limits.min, limits.max).astype(kind)


def _dequantize(array: np.ndarray, tensor: Any) -> np.ndarray:
    if not _is_quantized(tensor):
        return array.astype(np.float32)
    details = tensor.quantization
    scale, zero = np.asarray(details.scale), np.asarray(details.zeroPoint)
    if len(scale) > 1:
        shape = [1] * array.ndim
        shape[details.quantizedDimension] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return ((array.astype(np.float64) - zero) * scale).astype(np.float32)


def _weights(parsed: Parsed, name: str) -> list[np.ndarray]:
    """[kernel, bias] of the file, as floats in Keras's layout."""
    at = WEIGHTS_AT[name]
    bias_at = 3 if name == "TRANSPOSE_CONV" else 2
    kernel = _constant(parsed, int(parsed.operator.inputs[at])).transpose(TO_KERAS[name])
    return [kernel, _constant(parsed, int(parsed.operator.inputs[bias_at])).reshape(-1)]


def _constant(parsed: Parsed, index: int) -> np.ndarray:
    tensor = parsed.graph.tensors[parsed.dequantized.get(index, index)]
    raw = np.asarray(parsed.buffers[tensor.buffer].data, np.uint8)
    kind = _dtype(tensor)
    if kind in ("int4", "int2"):
        stored = _unpack(raw, int(kind[3:]), int(np.prod(tensor.shape)))
    else:
        stored = raw.view(np.dtype(kind))
    array = stored.reshape(tensor.shape)
    block = getattr(tensor.quantization, "details", None)
    if block is None:
        return _dequantize(array, tensor)
    scales = _constant(parsed, int(block.scales)).reshape(len(array), -1)
    return (array * np.repeat(scales, block.blockSize, axis=1)).astype(np.float32)


def _unpack(raw: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Signed values of ``bits`` bits, packed low bits first."""
    parts = np.stack([(raw >> shift) & (2**bits - 1) for shift in range(0, 8, bits)], axis=-1)
    signed = parts.astype(np.int8).reshape(-1)[:count]
    return np.where(signed >= 2 ** (bits - 1), signed - 2**bits, signed).astype(np.int8)
