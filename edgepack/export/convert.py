"""Keras to float bytes: a fixed batch of 1, a named signature, the model's own tensor order.

The function is traced with fixed-shape specs: a dynamic batch would leave SHAPE and PACK
operators that microcontroller runtimes dislike. The variables are held by a ``tf.Module``;
handing the Keras model itself to the converter writes NaN weights without a word.

Order: input *i* of the file's first subgraph is ``model.inputs[i]``, output *i* is
``model.outputs[i]``; the signature ``serving_default`` gives them the same names.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgepack.errors import ModelError
from edgepack.export import flatbuffer
from edgepack.export.failure import explained
from edgepack.model.load import Model
from edgepack.native import captured

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Traced:
    """A model as one concrete function of batch 1, with what keeps its variables alive."""

    function: Any
    holder: Any


@functools.lru_cache(maxsize=1)  # every scheme of one model starts here
def to_float(model: Model, *, allow_flex: bool = False) -> bytes:
    """``model`` as a float32 flatbuffer with a batch of 1 and the signature ``serving_default``.

    A ``.tflite`` model is its own content, completed. ``allow_flex`` lets operators that
    TensorFlow Lite lacks fall back to TensorFlow's. Raises ModelError where an operator has no
    equivalent, with the Keras layer that brought it, and where the result holds NaN.
    """
    if model.content is not None:
        content = model.content
    else:
        content = convert(model, trace(model), lambda converter: None, allow_flex=allow_flex)
    content = flatbuffer.completed(content, model)
    if (tensor := flatbuffer.not_finite(content)) is not None:
        raise ModelError(
            f"{model.name}: its weights '{tensor}' hold NaN or infinity",
            "train it again, or give a checkpoint from before it diverged",
        )
    return content


def trace(model: Model) -> Traced:
    """The model's inference function with every shape fixed. Raises ModelError."""
    import tensorflow as tf

    names = keys([spec.name for spec in model.inputs])
    specs = [
        tf.TensorSpec(spec.shape, spec.dtype, name=name)
        for spec, name in zip(model.inputs, names, strict=True)
    ]
    holder = tf.Module()
    if model.keras is not None:
        holder.values = [variable.value for variable in model.keras.variables]
        call = functools.partial(_call_keras, model)
    else:
        holder.values = [model.function]
        call = functools.partial(_call_signature, model)
    try:
        with captured():
            function = tf.function(call, autograph=False).get_concrete_function(*specs)
    except Exception as exc:
        raise explained(exc, model) from exc
    return Traced(function=function, holder=holder)


def _call_keras(model: Model, *values: Any) -> dict[str, Any]:
    import tensorflow as tf

    from edgepack.model.keras_file import packed

    answer = model.keras(packed(model.keras, list(values)), training=False)  # type: ignore[misc]
    return _named(tf, model, tf.nest.flatten(answer))


def _call_signature(model: Model, *values: Any) -> dict[str, Any]:
    import tensorflow as tf

    named = {spec.name: value for spec, value in zip(model.inputs, values, strict=True)}
    answer = model.function(**named)  # type: ignore[misc]
    return _named(tf, model, [answer[spec.name] for spec in model.outputs])


def _named(tf: Any, model: Model, outputs: list[Any]) -> dict[str, Any]:
    # identity: an input handed through, or one tensor returned twice, must stay two outputs
    return {
        key: tf.identity(output) if len(outputs) > 1 else output
        for key, output in zip(output_keys(model), outputs, strict=True)
    }


def output_keys(model: Model) -> list[str]:
    """What the traced function calls its outputs: sorted as they are ordered."""
    return [f"output_{place:04d}" for place in range(len(model.outputs))]


def keys(names: list[str]) -> list[str]:
    """Names as distinct identifiers that TensorFlow takes."""
    made: list[str] = []
    for place, name in enumerate(names):
        plain = "".join(c if c.isascii() and c.isalnum() else "_" for c in name).strip("_")
        plain = plain if plain and not plain[0].isdigit() else f"input_{plain}".rstrip("_")
        made.append(f"{plain}_{place}" if plain in made else plain)
    return made


def convert(
    model: Model,
    traced: Traced,
    configure: Callable[[Any], None],
    *,
    allow_flex: bool = False,
) -> bytes:
    """What TFLiteConverter makes of a traced model after ``configure(converter)``.

    Raises ModelError that names the Keras layer behind a failure.
    """
    import tensorflow as tf

    sets = tf.lite.OpsSet
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.function], traced.holder)
    configure(converter)
    if allow_flex:
        chosen = set(converter.target_spec.supported_ops) or {sets.TFLITE_BUILTINS}
        converter.target_spec.supported_ops = [*chosen, sets.SELECT_TF_OPS]
    with captured() as chatter:
        try:
            return bytes(converter.convert())
        except ModelError:
            raise
        except Exception as exc:
            raise explained(exc, model, chatter(), traced.function) from exc
