"""Ranges that a training learned, read from a model's fake-quant nodes.

Without its fake-quant nodes a float conversion is a plain float file whose kernels hold the
rounded values. So litert-quantizer makes every scheme of it with exactly the nodes' scales, and
nothing has to be calibrated but what no node covers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepack.export import flatbuffer
from edgepack.export.calibrate import Range
from edgepack.export.folding import AXES, WEIGHTS, fold
from edgepack.export.reshaping import join
from edgepack.export.stripping import Kernel, Stripped, compact, strip
from edgepack.graph.constants import values
from edgepack.graph.parse import parse
from edgepack.graph.types import Operator, Subgraph
from edgepack.model.load import Model

AS_INPUT = frozenset(
    {
        *("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "SPLIT"),
        *("AVERAGE_POOL_2D", "MAX_POOL_2D", "PAD", "MIRROR_PAD", "GATHER", "GATHER_ND"),
        *("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SPACE_TO_DEPTH", "DEPTH_TO_SPACE"),
        *("UNPACK", "BROADCAST_TO", "REDUCE_MIN", "REDUCE_MAX", "REVERSE_V2", "TILE"),
        *("BATCH_TO_SPACE_ND", "SPACE_TO_BATCH_ND"),
    }
)
"""Operators whose result has the range of what they are fed first."""
AS_OUTPUT = frozenset({"CONCATENATION", "PACK", "MAXIMUM", "MINIMUM", "PADV2", "SELECT_V2"})
"""Operators that take their inputs in the range of their result."""
FIXED = {"SOFTMAX": (0.0, 1.0), "LOGISTIC": (0.0, 1.0), "TANH": (-1.0, 1.0)} | {
    "LOG_SOFTMAX": (-16.0, 0.0)
}
"""Operators whose result has a range of its own."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """A float file without fake-quant nodes, and what these said.

    ``ranges`` are those of activations by tensor name; ``largest`` the magnitudes at which
    kernels saturate, by tensor name, of the shape that broadcasts over the kernel.
    """

    content: bytes
    ranges: Mapping[str, Range]
    largest: Mapping[str, NDArray[np.float64]]


def learned(content: bytes, model: Model) -> Learned | None:
    """What a float conversion's fake-quant nodes say; None where it has none.

    Raises ModelError for a kernel whose range is not symmetric.
    """
    file = Stripped(tree=flatbuffer.unpacked(content))
    if not strip(file):
        return None
    fold(file)
    join(file)
    compact(file)
    plain = flatbuffer.completed(flatbuffer.packed(file.tree), model)
    main = parse(plain, model.name).main
    largest = {}
    for operator in main.operators:
        place = WEIGHTS.get(operator.name, 1)
        if operator.name in AXES and operator.inputs[place] in file.kernels:
            index = operator.inputs[place]
            largest[main.tensors[index].name] = magnitudes(file.kernels[index], AXES[operator.name])
    ranges = {
        main.tensors[index].name: limits
        for index, limits in file.ranges.items()
        if not _only_joined(main, index, file.ranges)
    }
    return Learned(content=plain, ranges=ranges, largest=largest)


def _only_joined(main: Subgraph, index: int, ranges: Mapping[int, Range]) -> bool:
    """Whether a mean is only concatenated, to a tensor with a range.

    The converter gives such a mean its input's range, though no fake-quant node says so.
    """
    makers = [operator.name for operator in main.operators if index in operator.outputs]
    users = [operator for operator in main.operators if index in operator.inputs]
    return (
        makers == ["MEAN"]
        and bool(users)
        and all(operator.name in AS_OUTPUT and operator.outputs[0] in ranges for operator in users)
    )


def magnitudes(kernel: Kernel, axis: int) -> NDArray[np.float64]:
    """The largest magnitude of each channel along ``axis``, to broadcast over the kernel.

    A channel without a step is empty: it gets the largest of the others', or 1.
    """
    others = tuple(i for i in range(kernel.steps.ndim) if i != axis)
    found = kernel.steps.astype(np.float64).max(others, keepdims=True) * kernel.top
    return np.where(found > 0, found, float(found.max()) or 1.0)


def alike(main: Subgraph, largest: Mapping[str, NDArray[np.float64]]) -> frozenset[str]:
    """The operators all of whose kernels have one step a tensor: every runtime has that form."""
    several = set()
    for operator in main.operators:
        found = largest.get(_kernel(main, operator) or "")
        if operator.name in AXES and (found is None or len(np.unique(found)) > 1):
            several.add(operator.name)
    return frozenset(AXES) - several


def shared(
    largest: Mapping[str, NDArray[np.float64]], main: Subgraph, ops: Collection[str]
) -> dict[str, NDArray[np.float64]]:
    """The magnitudes, one a tensor for kernels of the operators ``ops``."""
    one = {_kernel(main, operator) for operator in main.operators if operator.name in ops}
    return {
        name: found.max(keepdims=True) if name in one else found for name, found in largest.items()
    }


def _kernel(main: Subgraph, operator: Operator) -> str | None:
    """The name of an operator's kernel; None where it has none."""
    if operator.name not in AXES:
        return None
    return main.tensors[operator.inputs[WEIGHTS.get(operator.name, 1)]].name


def spread(main: Subgraph, ranges: Mapping[str, Range]) -> tuple[dict[str, Range], list[str]]:
    """(the ranges of all tensors that follow from those given, names of those that do not).

    They follow through operators that keep their input's range, demand their result's, have one
    of their own, or scale and shift by a single constant.
    """
    names = [tensor.name for tensor in main.tensors]
    known = dict(ranges)
    while True:
        before = len(known)
        for operator in main.operators:
            _follow(main, operator, names, known)
        for operator in reversed(main.operators):
            _follow(main, operator, names, known)
        if len(known) == before:
            break
    computed = {i for o in main.operators for i in o.outputs} | set(main.inputs)
    floats = [i for i in sorted(computed) if main.tensors[i].dtype == "float32"]
    return known, [names[i] for i in floats if names[i] not in known]


def _follow(main: Subgraph, operator: Operator, names: list[str], known: dict[str, Range]) -> None:
    """Add what one operator says of the tensors around it."""
    fed = [i for i in operator.inputs if i >= 0 and not main.tensors[i].constant]
    fed = [i for i in fed if main.tensors[i].dtype == "float32"]
    made = [names[i] for i in operator.outputs]
    if operator.name in FIXED:
        known.setdefault(made[0], FIXED[operator.name])
    elif operator.name in AS_INPUT and fed:
        first = names[fed[0]]
        for name in made:
            if first in known:
                known.setdefault(name, known[first])
            elif name in known:
                known.setdefault(first, known[name])
    elif operator.name in AS_OUTPUT and made[0] in known:
        for index in fed:
            known.setdefault(names[index], known[made[0]])
    elif operator.name in ("MUL", "ADD", "SUB") and len(fed) == 1 and names[fed[0]] in known:
        found = _shifted(main, operator, known[names[fed[0]]], operator.inputs[0] == fed[0])
        if found is not None:
            known.setdefault(made[0], found)


def _shifted(main: Subgraph, operator: Operator, limits: Range, first: bool) -> Range | None:
    """The range after one constant is multiplied, added or subtracted; None for more than one."""
    tensor = main.tensors[operator.inputs[1 if first else 0]]
    fused = operator.options.get("fused_activation_function", "NONE") != "NONE"
    if not tensor.constant or tensor.elements != 1 or fused or not first:
        return None
    value = float(values(tensor).reshape(-1)[0])
    if operator.name == "MUL":
        ends = (limits[0] * value, limits[1] * value)
        return min(ends), max(ends)
    value = -value if operator.name == "SUB" else value
    return limits[0] + value, limits[1] + value


def lost(content: bytes, found: Learned) -> str:
    """What to note of a quantised file whose scales are not the learned ones; usually nothing."""
    scales = {
        tensor.name: tensor.quantisation.scales.astype(np.float64)
        for tensor in parse(content, "model").main.tensors
        if tensor.quantisation is not None and tensor.dtype.startswith("int")
    }
    # an operator's own demand, or a runtime's for one scale a tensor, can come first
    steps = {"int8": 255, "int16": 65534}
    kinds = {t.name: t.dtype for t in parse(content, "model").main.tensors}
    others = [
        name
        for name, (low, high) in found.ranges.items()
        if name in scales
        and kinds[name] in steps
        and not np.allclose(scales[name], (high - low) / steps[kinds[name]], rtol=1e-5)
    ]
    others += [
        name
        for name, magnitude in found.largest.items()
        if name in scales
        and not any(
            np.allclose(scales[name] * top, magnitude.reshape(-1), rtol=1e-5) for top in (127, 7)
        )
    ]
    return f"other scales than learned, as operators demand: {', '.join(others)}" if others else ""
