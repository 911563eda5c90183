"""A layer as the chain of layers that a factorisation makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from edgepack.passes import factorise, weighted
from edgepack.passes.chains import Piece
from edgepack.passes.layers import has, values
from edgepack.passes.moments import Moments

PLAIN = ("Dense", "Conv1D", "Conv2D")
"""The Keras classes that can be factorised."""


def refusal(layer: Any) -> str | None:
    """Why a layer cannot be factorised, or None where it can."""
    import keras

    name = type(layer).__name__
    if name not in PLAIN or type(layer) is not getattr(keras.layers, name):
        return f"{name} is not factorised: only {', '.join(PLAIN)} are"
    if name != "Dense" and layer.groups > 1:
        return f"its {layer.groups} groups are small factors already"
    if name != "Dense" and layer.data_format != "channels_last":
        return "its channels come first"
    if getattr(layer, "lora_enabled", False) or layer.quantization_mode:
        return "it has adapters or is quantised already"
    return None


def split(
    layer: Any, method: str, ranks: Sequence[int], named: Sequence[str], moments: Moments | None
) -> tuple[list[Piece], float]:
    """The pieces of a factorised layer, and the share of the energy that is lost.

    The last piece has the bias and the activation. With the ``moments`` of the layer's patches
    the factors go by the error of its outputs, about their mean where a bias can carry that.
    """
    kernel = values(layer)
    bias: Any = values(layer, "bias") if has(layer, "bias") else None
    second = moment(layer, moments)
    chain = weighted.factors(kernel, method, (int(ranks[0]), int(ranks[1])), second)
    made = weighted.product(chain, method)
    if bias is not None and moments is not None:
        bias = bias + moments.mean @ (factorise.unfold(kernel) - made)
    configs = CONFIGS[method](layer, named, [array.shape[-1] for array in chain])
    pieces = [
        Piece(made_of=type(layer), config=config, weights={"kernel": array})
        for config, array in zip(configs, chain, strict=True)
    ]
    if bias is not None:
        pieces[-1] = replace(pieces[-1], weights={"kernel": chain[-1], "bias": bias})
    return pieces, weighted.lost(kernel, made, second)


def moment(layer: Any, moments: Moments | None) -> Any:
    """The second moment that the layer's factors go by, or None."""
    if moments is None:
        return None
    return moments.centred if has(layer, "bias") else moments.second


def _svd(layer: Any, named: Sequence[str], ranks: Sequence[int]) -> list[dict[str, Any]]:
    if type(layer).__name__ == "Dense":
        return [_first(layer, named[0], units=ranks[0]), _last(layer, named[1])]
    return [
        _first(layer, named[0], filters=ranks[0]),
        _last(layer, named[1], **_pointwise(layer)),
    ]


def _spatial(layer: Any, named: Sequence[str], ranks: Sequence[int]) -> list[dict[str, Any]]:
    (high, wide), (down, right) = layer.kernel_size, layer.strides
    tall, broad = layer.dilation_rate
    first = {"kernel_size": (high, 1), "strides": (down, 1), "dilation_rate": (tall, 1)}
    second = {"kernel_size": (1, wide), "strides": (1, right), "dilation_rate": (1, broad)}
    return [
        _first(layer, named[0], filters=ranks[0], **first),
        _last(layer, named[1], **second),
    ]


def _tucker(layer: Any, named: Sequence[str], ranks: Sequence[int]) -> list[dict[str, Any]]:
    point = _pointwise(layer)
    return [
        _first(layer, named[0], filters=ranks[0], **point),
        _first(layer, named[1], filters=ranks[1]),
        _last(layer, named[2], **point),
    ]


def _pointwise(layer: Any) -> dict[str, Any]:
    """The config of a convolution that mixes channels alone."""
    ones = (1,) * len(layer.kernel_size)
    return {"kernel_size": ones, "strides": ones, "dilation_rate": ones, "padding": "valid"}


def _first(layer: Any, name: str, **more: Any) -> dict[str, Any]:
    """The config of a piece that is linear."""
    return {
        **_last(layer, name),
        "use_bias": False,
        "activation": "linear",
        "activity_regularizer": None,
        **more,
    }


def _last(layer: Any, name: str, **more: Any) -> dict[str, Any]:
    """The config of the piece that ends as the layer did. A constraint would not suit factors."""
    return {**layer.get_config(), "name": name, "kernel_constraint": None, **more}


CONFIGS = {"svd": _svd, "spatial": _spatial, "tucker": _tucker}
"""The configs of a chain's layers, by method: (layer, names, outputs of each) → configs."""
