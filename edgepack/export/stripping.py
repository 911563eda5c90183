"""A float conversion without its fake-quant nodes, and what these said of each tensor.

A float conversion leaves each fake-quant node as QUANTIZE and DEQUANTIZE, with the node's scale
on the tensor between them. They are taken out; a kernel behind one becomes a constant of the
rounded values, through the transpositions and reshapes that follow.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import ModelError
from edgepack.export import flatbuffer
from edgepack.export.calibrate import Range
from edgepack.graph.reading import schema, words

Floats = NDArray[np.float32]
MOVED = frozenset({"TRANSPOSE", "RESHAPE", "EXPAND_DIMS", "SQUEEZE"})
"""Operators that come between a kernel's fake-quant node and its operator."""
TOPS = {128: 127, 127: 127, 8: 7, 7: 7}
"""Zero point of a symmetric kernel, as the converter writes it → its largest integer."""


@dataclass(kw_only=True, eq=False)
class Kernel:
    """Values on a grid: ``steps`` has their shape, ``top`` is the largest integer."""

    values: Floats
    steps: Floats
    top: int

    def moved(self, how: Any) -> Kernel:
        """Both, transposed or reshaped."""
        return Kernel(values=how(self.values), steps=how(self.steps), top=self.top)


@dataclass(kw_only=True, eq=False)
class Stripped:
    """A file's main graph while its fake-quant nodes are taken out.

    ``ranges`` go by tensor index, ``kernels`` too; a tensor in ``alias`` is another's.
    """

    tree: Any
    alias: dict[int, int] = field(default_factory=dict)
    ranges: dict[int, Range] = field(default_factory=dict)
    kernels: dict[int, Kernel] = field(default_factory=dict)

    @property
    def graph(self) -> Any:
        """The main graph."""
        return self.tree.subgraphs[0]

    def constant(self, index: int) -> NDArray[Any] | None:
        """The values of a float32 or int32 constant; None where the tensor is computed."""
        tensor = self.graph.tensors[index]
        kinds = {"float32": np.float32, "int32": np.int32}
        data = self.tree.buffers[tensor.buffer].data
        kind = kinds.get(flatbuffer.dtype(tensor))
        if data is None or kind is None:
            return None
        shape = [] if tensor.shape is None else list(tensor.shape)
        return np.asarray(data, np.uint8).view(kind).reshape(shape)

    def added(self, values: Floats, name: str) -> int:
        """The index of a new float constant."""
        made = schema().TensorT()
        made.name, made.shape = name.encode(), np.array(values.shape, np.int32)
        made.type = next(k for k, word in words("TensorType").items() if word == "FLOAT32")
        made.buffer = len(self.tree.buffers)
        buffer = schema().BufferT()
        buffer.data = np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint8)
        self.tree.buffers.append(buffer)
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def name(self, index: int) -> str:
        """A tensor's name."""
        found = self.graph.tensors[index].name or b""
        return found.decode() if isinstance(found, bytes) else str(found)


def strip(file: Stripped) -> bool:
    """Take the nodes out of a file, in place; whether there were any."""
    kept, found = [], False
    for operator in file.graph.operators or []:
        name = flatbuffer.operator_name(file.tree, operator)
        operator.inputs = np.array([file.alias.get(i, i) for i in operator.inputs], np.int32)
        source, made = int(operator.inputs[0]), int(operator.outputs[0])
        is_float = flatbuffer.dtype(file.graph.tensors[source]) == "float32"
        if name == "QUANTIZE" and is_float:
            found = True
            _quantised(file, source, made)
        elif name == "DEQUANTIZE" and source in file.kernels:
            file.kernels[made] = file.kernels[source]
        elif name == "DEQUANTIZE" and is_float:
            file.alias[made] = source
        elif name in MOVED and source in file.kernels:
            file.kernels[made] = _moved(file, name, operator)
        else:
            _fill(file, operator)
            kept.append(operator)
    file.graph.operators = kept
    _rename_outputs(file)
    return found


def _quantised(file: Stripped, source: int, made: int) -> None:
    """Note what a QUANTIZE of a float says: a kernel's grid, or an activation's range."""
    tensor = file.graph.tensors[made]
    scales, zeros = flatbuffer.scales(tensor), np.asarray(tensor.quantization.zeroPoint)
    least, most = _limits(flatbuffer.dtype(tensor))
    values = file.constant(source)
    if values is None:
        scale, low, high = float(scales[0]), least - int(zeros[0]), most - int(zeros[0])
        if most - least == 0xFFFF:  # an int16 scale is symmetric and leaves -32768 out
            low, high = -32767, 32767
        file.ranges.setdefault(source, (low * scale, high * scale))
        file.alias[made] = source
        return
    zero = int(zeros[0]) - least
    if zero not in TOPS or (zeros != zeros[0]).any():
        raise ModelError(
            f"the fake-quant node of '{file.name(source)}' has a range that is not symmetric",
            "fake-quantise kernels from -x to x",
        )
    shape = [1] * values.ndim
    shape[int(tensor.quantization.quantizedDimension) if len(scales) > 1 else 0] = len(scales)
    steps = np.broadcast_to(np.abs(scales).reshape(shape), values.shape).astype(np.float32)
    safe = np.where(steps > 0, steps, 1)
    top = TOPS[zero]
    whole = np.clip(np.rint(values / safe), -top, top) * (steps > 0)
    file.kernels[made] = Kernel(values=whole * steps, steps=steps, top=top)


def _limits(dtype: str) -> tuple[int, int]:
    """The least and the largest integer of a type, also of those that NumPy lacks."""
    bits = int(dtype.lstrip("uint"))
    return (0, 2**bits - 1) if dtype[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _moved(file: Stripped, name: str, operator: Any) -> Kernel:
    kernel = file.kernels[int(operator.inputs[0])]
    if name == "TRANSPOSE":
        order = file.constant(int(operator.inputs[1]))
        return kernel.moved(lambda array: np.transpose(array, order))
    shape = list(file.graph.tensors[int(operator.outputs[0])].shape)
    return kernel.moved(lambda array: array.reshape(shape))


def _fill(file: Stripped, operator: Any) -> None:
    """Give an operator its kernels as constants; each keeps the place of the tensor it was."""
    for place, index in enumerate(operator.inputs):
        index = int(index)
        kernel = file.kernels.get(index)
        if kernel is not None and file.constant(index) is None:
            made = file.added(kernel.values, f"{file.name(index)}_rounded_{index}")
            file.kernels[made] = kernel
            operator.inputs[place] = made


def _rename_outputs(file: Stripped) -> None:
    def known(index: Any) -> int:
        return file.alias.get(int(index), int(index))

    outputs = [known(index) for index in file.graph.outputs]
    if len(set(outputs)) < len(outputs):
        raise ModelError(
            "two outputs are the same tensor but for a fake-quant node", "return it once"
        )
    file.graph.outputs = np.array(outputs, np.int32)
    for signature in file.tree.signatureDefs or []:
        for entry in signature.outputs or []:
            entry.tensorIndex = known(entry.tensorIndex)


def compact(file: Stripped) -> None:
    """Leave out tensors that nothing uses any more; ``ranges`` and ``kernels`` follow."""
    graph = file.graph
    used = {int(i) for op in graph.operators for i in (*op.inputs, *op.outputs)}
    used |= {int(i) for i in (*graph.inputs, *graph.outputs)}
    places = {old: new for new, old in enumerate(sorted(used - {-1}))} | {-1: -1}
    graph.tensors = [graph.tensors[old] for old in sorted(used - {-1})]

    def moved(indices: Any) -> NDArray[np.int32]:
        return np.array([places[int(i)] for i in indices], np.int32)

    for operator in graph.operators:
        operator.inputs, operator.outputs = moved(operator.inputs), moved(operator.outputs)
    graph.inputs, graph.outputs = moved(graph.inputs), moved(graph.outputs)
    for signature in file.tree.signatureDefs or []:
        for entry in (*(signature.inputs or []), *(signature.outputs or [])):
            entry.tensorIndex = places[entry.tensorIndex]
    file.ranges = {places[i]: limits for i, limits in file.ranges.items() if i in places}
    file.kernels = {places[i]: kernel for i, kernel in file.kernels.items() if i in places}
