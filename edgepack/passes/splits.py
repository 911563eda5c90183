"""A layer as the chain of layers that a factorisation makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgepack.passes import factorise
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
) -> list[Piece]:
    """The pieces of a factorised layer; the last has the bias and the activation.

    With the layer's ``moments``, SVD goes by the error of its outputs, about their mean where
    there is a bias to carry it.
    """
    bias = values(layer, "bias") if has(layer, "bias") else None
    if method == "svd":
        return _svd(layer, int(ranks[0]), named, bias, moments)
    if method == "spatial":
        return _spatial(layer, int(ranks[0]), named, bias)
    return _tucker(layer, (int(ranks[0]), int(ranks[1])), named, bias)


def moment(layer: Any, moments: Moments | None) -> Any:
    """What ``factorise.svd`` is to go by for this layer, or None."""
    if moments is None:
        return None
    return moments.centred if has(layer, "bias") else moments.second


def _svd(layer: Any, rank: int, named: Sequence[str], bias: Any, moments: Moments | None) -> Any:
    kernel = values(layer)
    left, right = factorise.svd(factorise.unfold(kernel), rank, moment(layer, moments))
    if bias is not None and moments is not None:
        # What the projection takes of the mean goes into the bias.
        scale = np.linalg.pinv(right) @ right
        bias = bias + moments.mean - moments.mean @ scale
    if type(layer).__name__ == "Dense":
        first = _first(layer, named[0], units=rank)
        second = _last(layer, named[1])
    else:
        first = _first(layer, named[0], filters=rank)
        second = _last(layer, named[1], **_pointwise(layer))
    return [
        Piece(made_of=type(layer), config=first, weights={"kernel": left}),
        Piece(made_of=type(layer), config=second, weights=_weights(right, bias)),
    ]


def _spatial(layer: Any, rank: int, named: Sequence[str], bias: Any) -> list[Piece]:
    (high, wide), (down, right) = layer.kernel_size, layer.strides
    tall, broad = layer.dilation_rate
    one, two = factorise.spatial_svd(values(layer), rank)
    first = _first(
        layer, named[0], filters=rank, kernel_size=(high, 1), strides=(down, 1),
        dilation_rate=(tall, 1),
    )  # fmt: skip
    second = _last(
        layer, named[1], kernel_size=(1, wide), strides=(1, right), dilation_rate=(1, broad)
    )
    return [
        Piece(made_of=type(layer), config=first, weights={"kernel": one}),
        Piece(made_of=type(layer), config=second, weights=_weights(two, bias)),
    ]


def _tucker(layer: Any, ranks: tuple[int, int], named: Sequence[str], bias: Any) -> list[Piece]:
    into, core, out = factorise.tucker2(values(layer), ranks)
    point = _pointwise(layer)
    return [
        Piece(
            made_of=type(layer),
            config=_first(layer, named[0], filters=ranks[0], **point),
            weights={"kernel": into},
        ),
        Piece(
            made_of=type(layer),
            config=_first(layer, named[1], filters=ranks[1]),
            weights={"kernel": core},
        ),
        Piece(
            made_of=type(layer),
            config=_last(layer, named[2], **point),
            weights=_weights(out, bias),
        ),
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


def _weights(kernel: Any, bias: Any) -> dict[str, Any]:
    return {"kernel": kernel} if bias is None else {"kernel": kernel, "bias": bias}
