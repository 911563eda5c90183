"""A float ``.tflite`` as a model: its inputs and outputs, read without running it."""

from __future__ import annotations

from pathlib import Path

from edgepack.errors import ModelError
from edgepack.graph.parse import parse
from edgepack.graph.types import Subgraph, Tensor
from edgepack.model.specs import Shapes, check_names, fixed
from edgepack.records import TensorSpec


def specs(
    content: bytes, path: Path, shapes: Shapes
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """(inputs, outputs) of the first subgraph, by the signature's names where it has one.

    Raises ModelError where the file is damaged or quantised already.
    """
    graph = parse(content, str(path))
    main = graph.subgraphs[0]
    names: dict[int, str] = {}
    for signature in graph.signatures:
        if signature.subgraph == 0:
            names |= {index: name for name, index in signature.inputs.items()}
            names |= {index: name for name, index in signature.outputs.items()}
    _check_float(main, path)
    inputs = [main.tensors[index] for index in main.inputs]
    outputs = [main.tensors[index] for index in main.outputs]
    check_names(shapes, [names.get(tensor.index, tensor.name) for tensor in inputs], path)
    return (
        tuple(_spec(tensor, names, shapes, path) for tensor in inputs),
        tuple(_spec(tensor, names, {}, path) for tensor in outputs),
    )


def _spec(tensor: Tensor, names: dict[int, str], shapes: Shapes, path: Path) -> TensorSpec:
    """A dynamic tensor takes the shape that is given for it, else the one that it starts with."""
    name = names.get(tensor.index, tensor.name)
    if name in shapes:
        signature = tensor.shape_signature or tensor.shape
        open_shape = [None if size < 0 else size for size in signature]
        return fixed(name, open_shape, tensor.dtype, shapes, path)
    return TensorSpec(name=name, shape=tensor.shape, dtype=tensor.dtype)


def _check_float(main: Subgraph, path: Path) -> None:
    for tensor in main.tensors:
        if tensor.quantisation is not None and tensor.dtype in ("int8", "uint8", "int16", "int4"):
            raise ModelError(
                f"{path}: is quantised already (tensor '{tensor.name}' is {tensor.dtype})",
                "give the float model; `measure` and `inspect` take this one as it is",
            )
