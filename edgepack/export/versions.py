"""The lowest version of an operator that really computes given dtypes.

A runtime refuses a version that it does not know, but computes nonsense where an operator of a
known version has operands that the version never had. litert-quantizer leaves the versions of
the float model; so they are raised here. Only the forms that an export can bring are listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

INT8 = MappingProxyType(
    dict.fromkeys(
        (
            *("ABS", "ADD", "ARG_MAX", "ARG_MIN", "AVERAGE_POOL_2D", "BATCH_MATMUL"),
            *("BATCH_TO_SPACE_ND", "CONCATENATION", "DEQUANTIZE", "EQUAL", "GATHER"),
            *("LOGISTIC", "MAXIMUM", "MAX_POOL_2D", "MEAN", "MINIMUM", "MIRROR_PAD", "MUL"),
            *("NOT_EQUAL", "PACK", "PAD", "PADV2", "REDUCE_MAX", "REDUCE_MIN", "RELU", "RELU6"),
            *("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "RSQRT", "SELECT", "SLICE"),
            *("SOFTMAX", "SPACE_TO_BATCH_ND", "SPLIT", "STRIDED_SLICE", "SUB", "TANH"),
            *("TRANSPOSE", "TRANSPOSE_CONV", "UNPACK"),
        ),
        2,
    )
    | {"REVERSE_V2": 3, "TILE": 3}
)
INT16 = MappingProxyType(
    {
        **dict.fromkeys(("AVERAGE_POOL_2D", "BATCH_MATMUL", "CONCATENATION", "DEQUANTIZE"), 3),
        **dict.fromkeys(("GATHER_ND", "LOGISTIC", "MAX_POOL_2D", "MEAN", "MIRROR_PAD"), 3),
        **dict.fromkeys(("PACK", "PAD", "PADV2", "REDUCE_MAX", "REDUCE_MIN", "RELU"), 3),
        **dict.fromkeys(("RELU6", "RSQRT", "SOFTMAX", "TANH"), 3),
        **dict.fromkeys(("BATCH_TO_SPACE_ND", "GATHER", "MAXIMUM", "MINIMUM", "MUL"), 4),
        **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SLICE"), 4),
        **dict.fromkeys(("SPACE_TO_BATCH_ND", "SPLIT", "UNPACK"), 4),
        "LEAKY_RELU": 2,
        "TRANSPOSE": 5,
    }
)
WEIGHTED = MappingProxyType(
    {
        ("CONV_2D", "int8", "int8"): (3, 3),
        ("CONV_2D", "int8", "int4"): (7, 7),
        ("CONV_2D", "float32", "int8"): (2, 5),
        ("CONV_2D", "float32", "int4"): (7, 7),
        ("DEPTHWISE_CONV_2D", "int8", "int8"): (3, 3),
        ("DEPTHWISE_CONV_2D", "int8", "int4"): (7, 7),
        ("DEPTHWISE_CONV_2D", "float32", "int8"): (4, 6),
        ("FULLY_CONNECTED", "int8", "int8"): (4, 4),
        ("FULLY_CONNECTED", "int8", "int4"): (10, 10),
        ("FULLY_CONNECTED", "float32", "int8"): (3, 12),
        ("FULLY_CONNECTED", "int16", "int4"): (13, 13),
    }
)
"""(operator, activations, weights) → version with one scale, with one scale a channel."""

DATA_INPUT = MappingProxyType({"SPLIT": 1, "TRANSPOSE_CONV": 1, "SELECT": 1, "SELECT_V2": 1})
"""Which input decides, where it is not the first."""


def lowest(
    op: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    channels: bool = False,
    options: Any = None,
) -> int:
    """The lowest version of ``op`` for these dtypes; 1 where nothing more is known.

    An input that was left out is ``none``. ``channels`` says that the weights (or the operand
    of QUANTIZE and DEQUANTIZE) have a scale per channel, ``options`` are the schema's builtin
    options.
    """
    found = [1]
    if len(inputs) > 1:
        found.append(WEIGHTED.get((op, inputs[0], inputs[1]), (1, 1))[channels])
    place = DATA_INPUT.get(op, 0)
    if place >= len(inputs):
        return max(found)
    data = inputs[place]
    if op == "FULLY_CONNECTED":
        found.append(6 if len(inputs) == 2 else 1)
        found.append(5 if getattr(options, "keepNumDims", False) else 1)
    elif op == "DEQUANTIZE":
        known = {"float16": 3, "int4": 6, "int8": 5 if channels else 2, "int16": 3}
        found.append(known.get(data, 1))
    elif op == "QUANTIZE":
        found.append(max(3 if channels else 1, 2 if outputs[0] == "int16" else 1))
    elif op in ("ADD", "SUB") and data == "int16":
        found.append(1 if _powers_of_two(options) else 3 if op == "ADD" else 5)
    elif data in ("int8", "int16"):
        found.append((INT8 if data == "int8" else INT16).get(op, 1))
    return max(found)


def _powers_of_two(options: Any) -> bool:
    return bool(getattr(options, "potScaleInt16", True))
