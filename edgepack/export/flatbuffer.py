"""Complete a flatbuffer through the schema's object API: names, order, batch, buffers, versions.

Whatever wrote the file, afterwards it has one signature ``serving_default`` with the model's
own names, first-subgraph inputs and outputs in the model's own order, a batch of 1, every
constant inside the flatbuffer (TFLM reads garbage from those behind it) aligned to 16 bytes as
the schema demands, and operator versions that say what is really needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgepack.errors import ModelError
from edgepack.export.versions import lowest
from edgepack.graph.reading import schema, words
from edgepack.model.load import Model
from edgepack.records import TensorSpec

KEY = "serving_default"
ALIGNMENT = 16
CALLERS = frozenset(
    {"WHILE", "IF", "CALL", "CALL_ONCE", "STABLEHLO_COMPOSITE", "STABLEHLO_WHILE", "CUSTOM"}
    | {"STABLEHLO_REDUCE", "STABLEHLO_SORT", "STABLEHLO_SCATTER", "STABLEHLO_REDUCE_WINDOW"}
    | {"STABLEHLO_CASE", "REDUCE_WINDOW"}
)
"""Operators that may run other subgraphs."""
INLINED = frozenset({"StatefulPartitionedCall", "PartitionedCall"})


def completed(content: bytes, model: Model) -> bytes:
    """``content`` with all of the above. Raises ModelError where its tensors are not the model's.

    The tensors behind the names are found by the signature that is there; without one, by
    their order.
    """
    tree = unpacked(content)
    _drop_unreached(tree)
    graph = tree.subgraphs[0]
    found = next((s for s in tree.signatureDefs or [] if s.subgraphIndex == 0), None)
    inputs = _ordered(found and found.inputs, graph.inputs, model.inputs, model.name)
    outputs = _ordered(found and found.outputs, graph.outputs, model.outputs, model.name)
    graph.inputs, graph.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
    _fix_batch(graph, inputs, model.inputs)
    signature = schema().SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = KEY, 0
    signature.inputs = [_named(*pair) for pair in zip(model.inputs, inputs, strict=True)]
    signature.outputs = [_named(*pair) for pair in zip(model.outputs, outputs, strict=True)]
    tree.signatureDefs = [signature]
    ends = zip((*inputs, *outputs), (*model.inputs, *model.outputs), strict=True)
    _name_tensors(graph, {index: spec.name for index, spec in ends})
    raise_versions(tree)
    return packed(tree)


def operator_name(tree: Any, operator: Any) -> str:
    """The schema's name of an operator (``CONV_2D``)."""
    code = tree.operatorCodes[operator.opcodeIndex]
    return words("BuiltinOperator")[max(code.builtinCode, code.deprecatedBuiltinCode)]


def dtype(tensor: Any) -> str:
    """The NumPy-like name of a tensor's type."""
    return words("TensorType")[tensor.type].lower()


def unpacked(content: bytes) -> Any:
    """The object tree (``ModelT``), every constant inside it."""
    tree = schema().ModelT.InitFromPackedBuf(content, 0)
    for buffer in tree.buffers:
        if buffer.offset > 1:
            where = slice(buffer.offset, buffer.offset + buffer.size)
            buffer.data = np.frombuffer(content[where], np.uint8)
            buffer.offset = buffer.size = 0
    for graph in tree.subgraphs:
        for operator in graph.operators or []:
            if operator.largeCustomOptionsOffset > 1:
                start = operator.largeCustomOptionsOffset
                stop = start + operator.largeCustomOptionsSize
                operator.customOptions = np.frombuffer(content[start:stop], np.uint8)
                operator.largeCustomOptionsOffset = operator.largeCustomOptionsSize = 0
    return tree


def packed(tree: Any) -> bytes:
    """The object tree as bytes, the same for the same tree."""
    import flatbuffers

    for buffer in tree.buffers:
        if buffer.data is not None:
            buffer.Pack = _Aligned(buffer)
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class _Aligned:
    """Writes a buffer as the schema's ``force_align`` says, which Python's code leaves out."""

    def __init__(self, buffer: Any) -> None:
        self.data = np.ascontiguousarray(np.asarray(buffer.data, np.uint8))

    def __call__(self, builder: Any) -> Any:
        builder.Prep(ALIGNMENT, len(self.data))
        data = builder.CreateNumpyVector(self.data)
        schema().BufferStart(builder)
        schema().BufferAddData(builder, data)
        return schema().BufferEnd(builder)


def raise_versions(tree: Any) -> None:
    """Give each operator at least the version that its operands need."""
    codes: list[Any] = []
    places: dict[tuple[int, bytes, int], int] = {}
    for graph in tree.subgraphs:
        for operator in graph.operators or []:
            old = tree.operatorCodes[operator.opcodeIndex]
            needed = _needed(tree, graph, operator)
            kind = max(old.builtinCode, old.deprecatedBuiltinCode)
            key = (kind, old.customCode or b"", max(old.version, needed))
            if key not in places:
                places[key] = len(codes)
                code = schema().OperatorCodeT()
                code.builtinCode, code.deprecatedBuiltinCode = kind, min(kind, 127)
                code.customCode, code.version = old.customCode, key[2]
                codes.append(code)
            operator.newIndex = places[key]
    for graph in tree.subgraphs:
        for operator in graph.operators or []:
            operator.opcodeIndex = operator.newIndex
    tree.operatorCodes = codes


def _needed(tree: Any, graph: Any, operator: Any) -> int:
    tensors = [graph.tensors[index] if index >= 0 else None for index in operator.inputs]
    name = operator_name(tree, operator)
    scaled = tensors[:1] if name in ("DEQUANTIZE", "QUANTIZE") else tensors[1:2]
    return lowest(
        name,
        ["none" if tensor is None else dtype(tensor) for tensor in tensors],
        [dtype(graph.tensors[index]) for index in operator.outputs],
        channels=any(tensor is not None and len(scales(tensor)) > 1 for tensor in scaled),
        options=operator.builtinOptions,
    )


def scales(tensor: Any) -> Any:
    """The tensor's scales; empty where it is not quantised."""
    quantisation = tensor.quantization
    none = quantisation is None or quantisation.scale is None
    return np.zeros(0, np.float32) if none else np.asarray(quantisation.scale)


def _drop_unreached(tree: Any) -> None:
    """Leave out other signatures' subgraphs, and constants that no tensor holds any more."""
    names = {operator_name(tree, operator) for operator in tree.subgraphs[0].operators or []}
    if not names & CALLERS:
        tree.subgraphs = tree.subgraphs[:1]
    held = {tensor.buffer for graph in tree.subgraphs for tensor in graph.tensors}
    held |= {entry.buffer for entry in tree.metadata or []}
    for index, buffer in enumerate(tree.buffers):
        if index not in held:
            buffer.data = None


def not_finite(content: bytes) -> str | None:
    """The name of the first float constant that holds NaN; None where there is none."""
    tree = unpacked(content)
    kinds = {"float32": np.float32, "float16": np.float16}
    for graph in tree.subgraphs:
        for tensor in graph.tensors:
            kind = kinds.get(dtype(tensor))
            if kind is None or tensor.buffer >= len(tree.buffers):
                continue
            data = tree.buffers[tensor.buffer].data
            if data is not None and np.isnan(np.asarray(data, np.uint8).view(kind)).any():
                return str((tensor.name or b"").decode(errors="replace"))
    return None


def _named(spec: TensorSpec, index: int) -> Any:
    entry = schema().TensorMapT()
    entry.name, entry.tensorIndex = spec.name, index
    return entry


def _ordered(
    found: Sequence[Any] | None, plain: Any, specs: Sequence[TensorSpec], where: str
) -> list[int]:
    """The tensor index of each spec: by its name in the signature, else by sorted traced name."""
    by_place: list[int] = [int(index) for index in plain]
    if found is not None:
        named = {_text(entry.name): int(entry.tensorIndex) for entry in found}
        if set(named) == {spec.name for spec in specs}:
            return [named[spec.name] for spec in specs]
        if len(named) == len(specs) and all(name.startswith("output_") for name in named):
            return [named[name] for name in sorted(named)]
    if len(by_place) != len(specs):
        raise ModelError(
            f"{where}: the flatbuffer has {len(by_place)} tensors where the model has {len(specs)}",
            "an unused input, or one tensor returned twice, has no place in a flatbuffer",
        )
    return by_place


def _name_tensors(graph: Any, ends: Mapping[int, str]) -> None:
    """Distinct names: the model's own for ``ends``, the others' without inlined calls' repetition,
    which can be a tenth of a file.
    """
    taken: set[str] = set()
    for index in [*ends, *(i for i in range(len(graph.tensors)) if i not in ends)]:
        tensor = graph.tensors[index]
        name = short = ends.get(index) or _short(_text(tensor.name or b""))
        count = 1
        while name in taken:
            name, count = f"{short}_{count}", count + 1
        taken.add(name)
        tensor.name = name


def _short(name: str) -> str:
    parts = [
        "/".join(word for word in part.split("/") if word not in INLINED)
        for part in name.split(";")
    ]
    return ";".join(dict.fromkeys(part for part in parts if part)) or "tensor"


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _fix_batch(graph: Any, inputs: Sequence[int], specs: Sequence[TensorSpec]) -> None:
    """Shapes without open sizes, where only the batch was open and the inputs now fix it."""
    for index, spec in zip(inputs, specs, strict=True):
        graph.tensors[index].shape = np.array(spec.shape, np.int32)
    for tensor in graph.tensors:
        signature = tensor.shapeSignature
        if signature is not None and (np.asarray(signature)[1:] >= 0).all():
            tensor.shapeSignature = None
