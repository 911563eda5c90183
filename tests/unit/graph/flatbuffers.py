"""Small models for tests, written with the schema's object API."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

DTYPES = {
    "float32": "FLOAT32",
    "float16": "FLOAT16",
    "int8": "INT8",
    "uint8": "UINT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
}


def tensor(
    name: str,
    shape: tuple[int, ...],
    dtype: str = "float32",
    data: Any = None,
    **fields: Any,
) -> dict[str, Any]:
    """A tensor; ``data`` an array, or bytes, or ``("buffer", index)`` of one already there."""
    return {"name": name, "shape": shape, "dtype": dtype, "data": data, **fields}


def constant(name: str, values: Any, **fields: Any) -> dict[str, Any]:
    array = np.asarray(values)
    return tensor(name, array.shape, array.dtype.name, array, **fields)


def operator(
    name: str, inputs: list[int], outputs: list[int], options: Any = None, **fields: Any
) -> dict[str, Any]:
    return {"name": name, "inputs": inputs, "outputs": outputs, "options": options, **fields}


def subgraph(
    tensors: list[dict[str, Any]],
    operators: list[dict[str, Any]],
    inputs: list[int],
    outputs: list[int],
    name: str = "main",
) -> dict[str, Any]:
    return {
        "tensors": tensors,
        "operators": operators,
        "inputs": inputs,
        "outputs": outputs,
        "name": name,
    }


class _Builder:
    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.description = "made by a test"
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.codes: dict[tuple[str, int], int] = {}

    def buffer(self, data: Any) -> int:
        if data is None:
            return 0
        if isinstance(data, tuple):
            return data[1]
        made = schema.BufferT()
        raw = data if isinstance(data, bytes) else np.ascontiguousarray(data).tobytes()
        made.data = np.frombuffer(raw, np.uint8)
        self.model.buffers.append(made)
        return len(self.model.buffers) - 1

    def code(self, name: str, version: int) -> int:
        if (name, version) not in self.codes:
            made = schema.OperatorCodeT()
            number = getattr(schema.BuiltinOperator, name, None)
            made.builtinCode = schema.BuiltinOperator.CUSTOM if number is None else number
            made.deprecatedBuiltinCode = min(made.builtinCode, 127)
            made.customCode = name if number is None else None
            made.version = version
            self.codes[name, version] = len(self.model.operatorCodes)
            self.model.operatorCodes.append(made)
        return self.codes[name, version]

    def tensor(self, wanted: dict[str, Any]) -> Any:
        made = schema.TensorT()
        made.name, made.shape = wanted["name"], list(wanted["shape"])
        dtype = wanted["dtype"]
        made.type = dtype if isinstance(dtype, int) else getattr(schema.TensorType, dtype.upper())
        made.buffer = self.buffer(wanted["data"])
        made.isVariable = wanted.get("variable", False)
        made.hasRank = True
        if "signature" in wanted:
            made.shapeSignature = list(wanted["signature"])
        if "scales" in wanted or "details" in wanted:
            made.quantization = quantisation = schema.QuantizationParametersT()
            quantisation.scale = wanted.get("scales", [])
            quantisation.zeroPoint = wanted.get("zero_points", [0] * len(quantisation.scale))
            quantisation.quantizedDimension = wanted.get("axis", 0)
            if "details" in wanted:
                quantisation.detailsType = schema.QuantizationDetails.BlockwiseQuantization
                quantisation.details = wanted["details"]
        made.sparsity = wanted.get("sparsity")
        return made

    def operator(self, wanted: dict[str, Any]) -> Any:
        made = schema.OperatorT()
        made.opcodeIndex = self.code(wanted["name"], wanted.get("version", 1))
        made.inputs, made.outputs = wanted["inputs"], wanted["outputs"]
        made.customOptions = wanted.get("custom_options")
        options = wanted["options"]
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            for union in ("BuiltinOptions", "BuiltinOptions2"):
                number = getattr(getattr(schema, union), kind, None)
                if number is not None:
                    stem = "builtin" + union.removeprefix("Builtin")
                    setattr(made, f"{stem}Type", number)
                    setattr(made, stem, options)
        return made

    def subgraph(self, wanted: dict[str, Any]) -> Any:
        made = schema.SubGraphT()
        made.name = wanted["name"]
        made.tensors = [self.tensor(item) for item in wanted["tensors"]]
        made.operators = [self.operator(item) for item in wanted["operators"]]
        made.inputs, made.outputs = wanted["inputs"], wanted["outputs"]
        return made

    def signature(self, key: str, index: int, inputs: Any, outputs: Any) -> Any:
        made = schema.SignatureDefT()
        made.signatureKey, made.subgraphIndex = key, index

        def maps(names: dict[str, int]) -> list[Any]:
            found = []
            for name, number in names.items():
                entry = schema.TensorMapT()
                entry.name, entry.tensorIndex = name, number
                found.append(entry)
            return found

        made.inputs, made.outputs = maps(inputs), maps(outputs)
        return made


def model(
    *subgraphs: dict[str, Any],
    signatures: tuple[Any, ...] = (),
    metadata: dict[str, bytes] | None = None,
    edit: Any = None,
) -> bytes:
    """A flatbuffer; ``edit`` may change the schema's ModelT before it is written."""
    builder = _Builder()
    builder.model.subgraphs = [builder.subgraph(item) for item in subgraphs]
    builder.model.signatureDefs = [builder.signature(*item) for item in signatures]
    builder.model.metadata = []
    for name, content in (metadata or {}).items():
        entry = schema.MetadataT()
        entry.name, entry.buffer = name, builder.buffer(content)
        builder.model.metadata.append(entry)
    if edit:
        edit(builder.model)
    packed = flatbuffers.Builder(1024)
    packed.Finish(builder.model.Pack(packed), b"TFL3")
    return bytes(packed.Output())


def conv_options(**fields: Any) -> Any:
    options = schema.Conv2DOptionsT()
    options.strideW = options.strideH = 1
    for name, value in fields.items():
        setattr(options, name, value)
    return options


def convolution(edit: Any = None, **weights: Any) -> bytes:
    """input (1,8,8,3) → CONV_2D 3x3, 4 filters, SAME, ReLU → (1,8,8,4), with a signature."""
    filters = np.arange(4 * 3 * 3 * 3, dtype=np.int8).reshape(4, 3, 3, 3)
    return model(
        subgraph(
            [
                tensor("in", (1, 8, 8, 3), "int8", scales=[0.5], zero_points=[-3]),
                constant("w", filters, scales=[0.1, 0.2, 0.3, 0.4], **weights),
                constant("b", np.ones(4, np.int32), scales=[0.05, 0.1, 0.15, 0.2]),
                tensor("out", (1, 8, 8, 4), "int8", scales=[0.25], zero_points=[7]),
            ],
            [operator("CONV_2D", [0, 1, 2], [3], conv_options(fusedActivationFunction=1))],
            [0],
            [3],
        ),
        signatures=(("serve", 0, {"image": 0}, {"scores": 3}),),
        metadata={"note": b"hello"},
        edit=edit,
    )


def relu(size: int) -> bytes:
    """A model of one operator: max(x, 0) on float32[1, size]."""
    tensors = [tensor("x", (1, size)), tensor("y", (1, size))]
    return model(subgraph(tensors, [operator("RELU", [0], [1])], [0], [1]))
