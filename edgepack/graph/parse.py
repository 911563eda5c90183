"""Bytes to a ``Graph``: every index, length and shape checked, whatever the bytes say.

The schema's accessors check no more than that they read inside the file. So all reading goes
through a budget in proportion to the file's size: tables that point to one another, or claim
the same data again and again, run out of it instead of filling the memory.
"""

from __future__ import annotations

import struct
from itertools import chain
from pathlib import Path
from typing import Any

from edgepack.errors import ModelError
from edgepack.graph.operators import read_codes, read_operator
from edgepack.graph.reading import Budget, Malformed, schema, shown
from edgepack.graph.tensors import read_buffers, read_tensor
from edgepack.graph.types import Graph, SignatureDef, Subgraph, Tensor

HINT = "give a .tflite file as a converter wrote it"
IDENTIFIER = b"TFL3"
MOST_NESTED = 100
MOST_WALKED = 20_000_000
"""Each entry point is planned with all that it calls: what many share is walked as often."""
FOREIGN = (
    struct.error,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    AttributeError,
    OverflowError,
    AssertionError,
)
"""What the schema's accessors raise where a file is damaged."""


def read(path: Path) -> Graph:
    """The model in the file ``path``. Raises ModelError, one line, for whatever is wrong."""
    return parse(read_bytes(path), str(path))


def read_bytes(path: Path) -> bytes:
    """The content of the model file ``path``. Raises ModelError where it cannot be read."""
    try:
        if path.exists() and not path.is_file():
            # A folder, or a device or pipe, whose reading might never end.
            raise ModelError(f"{path}: not a file", HINT)
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file", "check the path") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"{path}: cannot be read: {reason}", "check the path") from error


def parse(content: bytes, name: str) -> Graph:
    """The model in ``content``; ``name`` names it in errors. Raises ModelError."""
    if not content:
        raise ModelError(f"{name}: the file is empty", HINT)
    if content[4:8] != IDENTIFIER:
        raise ModelError(f"{name}: not a TensorFlow Lite model (no TFL3 mark)", HINT)
    try:
        return _read_model(content, name)
    except Malformed as error:
        raise ModelError(f"{name}: {error}", HINT) from error
    except FOREIGN as error:
        raise ModelError(f"{name}: a damaged or truncated model ({error})", HINT) from error
    except MemoryError as error:
        raise ModelError(f"{name}: too large for this machine's memory", HINT) from error


def _read_model(content: bytes, name: str) -> Graph:
    budget = Budget(len(content))
    model = schema().Model.GetRootAs(content, 0)
    if model.Version() != 3:
        raise Malformed(f"schema version {model.Version()}; TensorFlow Lite models have 3")
    count = model.SubgraphsLength()
    if count == 0:
        raise Malformed("holds no subgraph, so nothing to run")
    buffers = read_buffers(model, content, budget)
    codes = read_codes(model, budget)
    subgraphs = tuple(
        _read_subgraph(index, model, codes, buffers, budget)
        for index in budget.range(count, "subgraphs")
    )
    _check_calls(subgraphs)
    return Graph(
        name=name,
        size_bytes=len(content),
        version=model.Version(),
        description=budget.text(model.Description()),
        subgraphs=subgraphs,
        signatures=tuple(
            _read_signature(model.SignatureDefs(index), subgraphs, budget)
            for index in budget.range(model.SignatureDefsLength(), "signatures")
        ),
        metadata=_read_metadata(model, buffers, budget),
    )


def _read_subgraph(index: int, model: Any, codes: Any, buffers: Any, budget: Budget) -> Subgraph:
    table = model.Subgraphs(index)
    where = f"subgraph {index}"
    count = table.TensorsLength()
    tensors = tuple(
        read_tensor(item, table.Tensors(item), buffers, f"{where} tensor {item}", budget)
        for item in budget.range(count, "tensors")
    )
    for tensor in tensors:
        _check_scales(tensor, count, where)
    operators = tuple(
        read_operator(
            item,
            table.Operators(item),
            codes,
            (count, model.SubgraphsLength()),
            f"{where} operator {item}",
            budget,
        )
        for item in budget.range(table.OperatorsLength(), "operators")
    )
    return Subgraph(
        index=index,
        name=budget.text(table.Name()),
        tensors=tensors,
        operators=operators,
        inputs=budget.indices(table, "Inputs", count, f"{where} inputs"),
        outputs=budget.indices(table, "Outputs", count, f"{where} outputs"),
    )


def _check_scales(tensor: Tensor, count: int, where: str) -> None:
    """Blockwise scales are tensors: those must exist."""
    if tensor.quantisation is None:
        return
    for index in (tensor.quantisation.scale_tensor, tensor.quantisation.zero_point_tensor):
        if index is not None and not 0 <= index < count:
            raise Malformed(f"{where} tensor {tensor.index}: no tensor {index} of scales")


def _check_calls(subgraphs: tuple[Subgraph, ...]) -> None:
    """Subgraphs call one another in no circle and not endlessly deep, so that walks end."""
    calls = [
        {called for operator in subgraph.operators for called in operator.calls}
        for subgraph in subgraphs
    ]
    waiting = [0] * len(subgraphs)
    for called in chain.from_iterable(calls):
        waiting[called] += 1
    level = [index for index, callers in enumerate(waiting) if callers == 0]
    size = sum(len(subgraph.tensors) + len(subgraph.operators) for subgraph in subgraphs)
    if len(level) * size > MOST_WALKED:
        raise Malformed(f"has {len(level)} entry points over {size} tensors and operators")
    seen = depth = 0
    while level:
        seen, depth, following = seen + len(level), depth + 1, []
        for called in chain.from_iterable(calls[caller] for caller in level):
            waiting[called] -= 1
            if waiting[called] == 0:
                following.append(called)
        level = following
    if seen < len(subgraphs):
        raise Malformed("its subgraphs call one another in a circle")
    if depth > MOST_NESTED:
        raise Malformed(f"its subgraphs call one another {depth} deep")


def _read_signature(table: Any, subgraphs: tuple[Subgraph, ...], budget: Budget) -> SignatureDef:
    key, index = budget.text(table.SignatureKey()), table.SubgraphIndex()
    if index >= len(subgraphs):
        raise Malformed(
            f"signature '{shown(key)}': no subgraph {index} (there are {len(subgraphs)})"
        )

    def names(side: str, known: tuple[int, ...]) -> dict[str, int]:
        maps = [
            getattr(table, side)(item)
            for item in budget.range(getattr(table, f"{side}Length")(), "signature names")
        ]
        found = {budget.text(item.Name()): item.TensorIndex() for item in maps}
        for name, tensor in found.items():
            if tensor not in known:
                raise Malformed(
                    f"signature '{shown(key)}': '{shown(name)}' is tensor {tensor}, "
                    f"not among the {side.lower()} of subgraph {index}"
                )
        return found

    subgraph = subgraphs[index]
    return SignatureDef(
        key=key,
        subgraph=index,
        inputs=names("Inputs", subgraph.inputs),
        outputs=names("Outputs", subgraph.outputs),
    )


def _read_metadata(model: Any, buffers: Any, budget: Budget) -> dict[str, memoryview]:
    found = {}
    for index in budget.range(model.MetadataLength(), "metadata"):
        entry = model.Metadata(index)
        name, buffer = budget.text(entry.Name()), entry.Buffer()
        if buffer >= len(buffers):
            raise Malformed(
                f"metadata '{shown(name)}': no buffer {buffer} (there are {len(buffers)})"
            )
        found[name] = buffers[buffer].data or memoryview(b"")
    return found
