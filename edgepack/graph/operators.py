"""Operators of a flatbuffer, with their builtin options as plain values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from edgepack.graph.reading import Budget, Malformed, schema, shown, words
from edgepack.graph.types import Operator

_WORDS = {
    "padding": "Padding",
    "fused_activation_function": "ActivationFunctionType",
    "weights_format": "FullyConnectedOptionsWeightsFormat",
    "kernel_type": "LSTMKernelType",
    "mode": "MirrorPadMode",
    "in_data_type": "TensorType",
    "out_data_type": "TensorType",
    "output_type": "TensorType",
}
"""Options that are codes in the file, and the enumeration that names them."""

_CALLED = (
    "cond_subgraph_index",
    "body_subgraph_index",
    "then_subgraph_index",
    "else_subgraph_index",
    "init_subgraph_index",
    "subgraph",
    "decomposition_subgraph_index",
    "update_computation_subgraph_index",
    "comparator_subgraph_index",
    "branch_subgraph_indices",
)
"""Options that name subgraphs, in the order in which they run."""


@dataclass(frozen=True, kw_only=True)
class Code:
    """What an operator is."""

    name: str
    version: int
    custom: bool


def read_codes(model: Any, budget: Budget) -> tuple[Code, ...]:
    """The kinds of operators that the model declares."""
    found = []
    for index in budget.range(model.OperatorCodesLength(), "operator codes"):
        table = model.OperatorCodes(index)
        # Old files hold the code in a byte only, new ones in both fields or in the wide one.
        number = max(table.DeprecatedBuiltinCode(), table.BuiltinCode())
        custom = number == schema().BuiltinOperator.CUSTOM
        name = (
            budget.text(table.CustomCode()) or "unnamed"
            if custom
            else words("BuiltinOperator").get(number, f"BUILTIN_{number}")
        )
        found.append(Code(name=name, version=table.Version(), custom=custom))
    return tuple(found)


def read_operator(
    index: int,
    table: Any,
    codes: tuple[Code, ...],
    counts: tuple[int, int],
    where: str,
    budget: Budget,
) -> Operator:
    """One operator; ``counts`` are the tensors of its subgraph and the subgraphs of the model."""
    if table.OpcodeIndex() >= len(codes):
        raise Malformed(f"{where}: no operator code {table.OpcodeIndex()} (there are {len(codes)})")
    code = codes[table.OpcodeIndex()]
    tensors, subgraphs = counts
    options = _read_options(table, budget)
    calls = tuple(called for key in _CALLED for called in _as_tuple(options.get(key)))
    for called in calls:
        if not 0 <= called < subgraphs:
            raise Malformed(
                f"{where} {shown(code.name)}: no subgraph {called} (there are {subgraphs})"
            )
    custom_options = bytes(budget.vector(table, "CustomOptions").astype(np.uint8, copy=False))
    budget.take(len(custom_options), "custom options")
    named = f"{where} {shown(code.name)}"
    return Operator(
        index=index,
        name=code.name,
        version=code.version,
        custom=code.custom,
        inputs=budget.indices(table, "Inputs", tensors, f"{named} inputs", optional=True),
        outputs=budget.indices(table, "Outputs", tensors, f"{named} outputs"),
        intermediates=budget.indices(
            table, "Intermediates", tensors, f"{named} intermediates", optional=True
        ),
        options=options,
        custom_options=custom_options,
        calls=calls,
    )


def _as_tuple(value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


def _read_options(table: Any, budget: Budget) -> dict[str, Any]:
    """Builtin options of either union, under the schema's names."""
    for union in ("BuiltinOptions", "BuiltinOptions2"):
        kind, raw = getattr(table, f"{union}Type")(), getattr(table, union)()
        if kind and raw is not None:
            values = getattr(schema(), f"{union}Creator")(kind, raw)
            if values is not None:
                return {
                    _snake(name): _plain(_snake(name), value, budget)
                    for name, value in vars(values).items()
                }
    return {}


@cache
def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def _plain(name: str, value: Any, budget: Budget) -> Any:
    budget.take(1, "options")
    if isinstance(value, np.ndarray | list):
        budget.take(len(value), "options")
        return tuple(np.asarray(value).tolist())
    if isinstance(value, bytes):
        return budget.text(value)
    if name in _WORDS and isinstance(value, int):
        return words(_WORDS[name]).get(value, str(value))
    return value
