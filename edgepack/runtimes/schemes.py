"""Whether a runtime would refuse or miscompute an export scheme: decided by its table's rows.

Nothing here knows a runtime. What each producer makes of each operator under a scheme is
written down once (``form``) and proved against real exports by the test that regenerates the
rows; the rest is looking up.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from edgepack.runtimes.tables import Row, Runtime

Producer = Literal["converter", "quantizer"]
COMMON = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
WEIGHTED = frozenset({*COMMON, "TRANSPOSE_CONV"})

PRODUCERS: dict[str, tuple[Producer, ...]] = {
    "float32": ("converter",),
    "float16": ("quantizer", "converter"),
    "dynamic": ("quantizer", "converter"),
    "int8": ("quantizer", "converter"),
    "int16x8": ("converter", "quantizer"),
    "int4": ("quantizer",),
}
"""Who can make each scheme, the better one first where a runtime computes both right."""

CLOSEST: dict[str, tuple[str, ...]] = {
    "float32": ("float16", "int16x8", "dynamic", "int8", "int4"),
    "float16": ("float32", "int16x8", "dynamic", "int8", "int4"),
    "dynamic": ("int8", "int16x8", "float16", "float32", "int4"),
    "int8": ("int16x8", "dynamic", "int4", "float16", "float32"),
    "int16x8": ("int8", "dynamic", "float16", "float32", "int4"),
    "int4": ("int8", "int16x8", "dynamic", "float16", "float32"),
}
"""Each scheme's neighbours: first those that keep what one chose it for, size or accuracy."""

DTYPES = {
    "float32": ("float32", "float32"),
    "float16": ("float32", "float16"),
    "dynamic": ("float32", "int8"),
    "int8": ("int8", "int8"),
    "int16x8": ("int16", "int8"),
    "int4": ("int8", "int4"),
}
"""Scheme → dtypes of activations and weights."""

VERSIONS = {
    "CONV_2D": {"dynamic": 5, "int8": 3, "int16x8": 3, "int4": 7},
    "DEPTHWISE_CONV_2D": {"dynamic": 6, "int8": 3, "int16x8": 3},
    "FULLY_CONNECTED": {"dynamic": 12, "int8": 4, "int16x8": 4, "int4": 10},
}
"""Operator versions with a scale a channel, as exports carry them; 1 where none is named."""

FLOAT_IN_QUANTIZER = {
    "int8": frozenset({"LEAKY_RELU", "RELU6", "TILE"}),
    "int16x8": frozenset({"HARD_SWISH", "LEAKY_RELU", "RELU6", "TILE"}),
}
"""Operators that the quantizer leaves in float32, between DEQUANTIZE and QUANTIZE."""

FOUR_BITS = frozenset({"CONV_2D", "FULLY_CONNECTED"})
"""Operators whose weights int4 makes 4 bits wide; all others are as in int8."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a scheme would fail on a runtime, and the nearest scheme that would not."""

    why: str
    nearest: str | None


@dataclass(frozen=True, kw_only=True)
class Method:
    """How to make a scheme so that a runtime computes it right.

    The weights of operators in ``per_tensor`` must share one scale a tensor; those of others
    have one scale an output channel.
    """

    producer: Producer
    per_tensor: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Form:
    """The form of one operator in a flatbuffer: the key of a table's row."""

    op: str
    activations: str
    weights: str
    granularity: str
    version: int


def form(scheme: str, producer: Producer, op: str, *, per_tensor: bool = False) -> Form:
    """What ``producer`` makes of ``op`` under ``scheme``."""
    if scheme == "int4" and op not in FOUR_BITS:
        scheme = "int8"
    floats = producer == "quantizer" and op in FLOAT_IN_QUANTIZER.get(scheme, ())
    scheme = "float32" if floats else scheme
    activations, weights = DTYPES[scheme]
    granularity = "none"
    if op not in WEIGHTED:
        weights = "none"
    elif weights.startswith("int"):
        granularity = "per-tensor" if per_tensor else "per-channel"
    version = 1 if per_tensor else VERSIONS.get(op, {}).get(scheme, 1)
    return Form(
        op=op,
        activations=activations,
        weights=weights,
        granularity=granularity,
        version=version,
    )


def method(
    runtime: Runtime,
    scheme: str,
    ops: Collection[str] = COMMON,
    producers: Sequence[Producer] | None = None,
) -> Method | None:
    """How to make ``scheme`` for a model with these operators; None where no way is right.

    ``producers`` are those asked, by default all that can make the scheme. A form that has no
    row has not been tried: it counts as right, since every export is compared in the target's
    own runtime afterwards.
    """
    for producer in PRODUCERS[scheme] if producers is None else producers:
        per_tensor = frozenset(op for op in ops if _needs_per_tensor(runtime, scheme, producer, op))
        made = Method(producer=producer, per_tensor=per_tensor)
        if not _faults(runtime, scheme, made, ops):
            return made
    return None


def refusal(runtime: Runtime, scheme: str, *, ops: Collection[str] | None = None) -> Refusal | None:
    """Why the runtime would refuse or miscompute ``scheme``; None where it computes it.

    ``ops`` are the builtin operators of the model's float flatbuffer, by default those of
    nearly every network.
    """
    ops = COMMON if ops is None else ops
    if method(runtime, scheme, ops):
        return None
    usual = Method(producer=PRODUCERS[scheme][0])
    nearest = (other for other in CLOSEST[scheme] if method(runtime, other, ops))
    return Refusal(why=_faults(runtime, scheme, usual, ops)[0], nearest=next(nearest, None))


def _needs_per_tensor(runtime: Runtime, scheme: str, producer: Producer, op: str) -> bool:
    """Whether only one scale a tensor is computed right. Only the quantizer is asked for it."""
    if producer != "quantizer":
        return False
    rows = [_row(runtime, form(scheme, producer, op, per_tensor=flag)) for flag in (False, True)]
    return _is_bad(rows[0]) and rows[1] is not None and not _is_bad(rows[1])


def _faults(runtime: Runtime, scheme: str, made: Method, ops: Collection[str]) -> list[str]:
    """One sentence for each operator that the runtime would refuse or miscompute."""
    found = []
    for op in sorted(ops):
        if not runtime.has(op):
            found.append(f"{runtime.name} has no operator {op}")
            continue
        row = _row(runtime, form(scheme, made.producer, op, per_tensor=op in made.per_tensor))
        if row is not None and _is_bad(row):
            does = "refuses" if row.verdict == "refused" else "computes wrong results for"
            found.append(f"{runtime.name} {does} {op} with {_described(row)}")
    return found


def _row(runtime: Runtime, wanted: Form) -> Row | None:
    return runtime.verdict(
        wanted.op, wanted.activations, wanted.weights, wanted.granularity, wanted.version
    )


def _is_bad(row: Row | None) -> bool:
    return row is not None and row.verdict in ("wrong", "refused")


def _described(row: Row) -> str:
    shared = {"per-channel": " with a scale per channel", "per-tensor": " with one scale"}
    weights = f" and {row.weights} weights{shared.get(row.granularity, '')}"
    return f"{row.activations} activations" + ("" if row.weights == "none" else weights)
