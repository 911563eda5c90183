"""Quantisation inside TFLiteConverter, for what litert-quantizer does not do as well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgepack.errors import ModelError
from edgepack.export.convert import Traced, convert
from edgepack.export.observe import samples
from edgepack.model.data import Data
from edgepack.model.load import Model
from edgepack.spec.recipe import Recipe

SCHEMES = frozenset({"float16", "dynamic", "int8", "int16x8"})


def quantised(model: Model, traced: Traced, recipe: Recipe, data: Data | None) -> bytes:
    """``model`` in one of ``SCHEMES``, activations calibrated by min-max over all of ``data``.

    Raises ModelError where an operator has no such form.
    """
    import tensorflow as tf

    sets = tf.lite.OpsSet
    scheme = recipe.scheme
    if scheme not in SCHEMES:
        raise ModelError(f"TFLiteConverter has no scheme {scheme}", "choose another scheme")

    def feed() -> Iterator[Any]:
        return iter(samples(data, model.inputs)) if data is not None else iter(())

    def configure(converter: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if scheme == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if scheme in ("int8", "int16x8"):
            wide = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            converter.representative_dataset = feed
            converter.target_spec.supported_ops = [
                sets.TFLITE_BUILTINS_INT8 if scheme == "int8" else wide
            ]
            if recipe.io == "integer" and _floats(model):
                kind = tf.int8 if scheme == "int8" else tf.int16
                converter.inference_input_type = converter.inference_output_type = kind

    return convert(model, traced, configure, allow_flex=recipe.allow_flex)


def _floats(model: Model) -> bool:
    """Whether inputs and outputs are floats, so that they can become integers."""
    return all(spec.dtype == "float32" for spec in (*model.inputs, *model.outputs))
