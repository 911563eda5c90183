"""Distillation into another architecture: a small student learns what the teacher answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import numpy as np

from edgepack.errors import ModelError, SpecError
from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.chains import without
from edgepack.passes.fit import fit, kept_epochs
from edgepack.passes.layers import DEPTHWISE, KERNELS, kind, variable
from edgepack.passes.network import Call, Network, read
from edgepack.spec.fields import FORBID, Positive

ZOO = {
    "mobilenet-like": "edgepack.passes.students.mobilenet",
    "efficientnet-like": "edgepack.passes.students.efficientnet",
    "ds-cnn": "edgepack.passes.students.ds_cnn",
    "resnet-tiny": "edgepack.passes.students.resnet",
}
SIGNALS = ("ds-cnn",)
"""Architectures that take signals (long, channels) too."""
DRAW = 31
"""The stream of random numbers that a student's weights are drawn from."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the student looks like.

    ``architecture``: ``auto`` takes ``ds-cnn`` for signals and for images that are not square,
    such as spectrograms, else ``mobilenet-like``. ``width`` multiplies its channels and
    ``depth`` its blocks. Strides suit the input's size. Its weights are fresh, so the step must
    train, best with ``distill``.
    """

    __pydantic_config__ = FORBID
    architecture: Literal[
        "auto", "mobilenet-like", "efficientnet-like", "ds-cnn", "resnet-tiny"
    ] = "auto"
    width: Positive = 1.0
    depth: Positive = 1.0


@dataclass(frozen=True, kw_only=True)
class End:
    """The model's answer: how many numbers, by which function, and what it is called."""

    size: int
    activation: Any
    name: str


def apply(candidate: Candidate, options: Options, context: Context) -> Candidate:
    """Train a student in the model's place.

    Raises ModelError for a model with several inputs or outputs, or of a form that no student
    has, SpecError where the step does not train.
    """
    network = read(candidate.model)
    entry, end = _entry(network), _end(network)
    if context.training is None:
        raise SpecError(
            "a student has fresh weights, and its step does not train",
            "add train = {epochs = …} and distill = {} to the step",
        )
    chosen = _architecture(network, entry, options)
    model = _student(network, entry, end, chosen, options, context)
    _, words = without(candidate.constraints, {c.layer for c in candidate.constraints})
    history = fit(model, context, label="student")
    changed = [
        f"{chosen}, width {options.width:g}, depth {options.depth:g}: {model.count_params()} "
        f"weights instead of {candidate.model.count_params()}, "
        f"trained {kept_epochs(history)} epochs",
        "every layer is new: " + ", ".join(call.name for call in network.calls),
    ]
    return candidate.then("student", model, changed=[*changed, *words], constraints=())


def _architecture(network: Network, entry: Call, options: Options) -> str:
    """The architecture's name. Raises ModelError where it does not take such inputs."""
    shape = entry.shapes[0][1:]
    if options.architecture == "auto":
        square = len(shape) == 3 and shape[0] == shape[1]
        return "mobilenet-like" if square else "ds-cnn"
    if len(shape) == 2 and options.architecture not in SIGNALS:
        raise ModelError(
            f"{network.name}: '{entry.name}' is a signal {shape}, "
            f"{options.architecture} takes images",
            f"choose architecture = {' or '.join(SIGNALS)}",
        )
    return options.architecture


def _entry(network: Network) -> Call:
    """The call of the one input. Raises ModelError."""
    entries = [call for call in network.calls if not call.inputs]
    if len(entries) != 1:
        raise ModelError(
            f"{network.name}: a student takes one input, this model has {len(entries)}",
            "compress the model itself, by pruning, lowrank or separable",
        )
    (entry,) = entries
    shape = entry.shapes[0][1:]
    if len(shape) not in (2, 3) or None in shape or "float" not in str(entry.layer.dtype):
        raise ModelError(
            f"{network.name}: input '{entry.name}' is {entry.layer.dtype} {shape}; students take "
            "float images (high, wide, channels) and signals (long, channels) of known sizes",
            "compress the model itself, by pruning or lowrank",
        )
    return entry


def _end(network: Network) -> End:
    """The model's answer. Raises ModelError where it is not one row of numbers."""
    import keras

    ends = keras.tree.flatten(network.outputs)
    shapes = [network.producer(value).shapes[value.place][1:] for value in ends]
    if len(ends) != 1 or len(shapes[0]) != 1 or shapes[0][0] is None:
        raise ModelError(
            f"{network.name}: a student gives one row of numbers, this model gives "
            + ", ".join(str(shape) for shape in shapes),
            "compress the model itself, by pruning, lowrank or separable",
        )
    call = network.producer(ends[0])
    return End(size=shapes[0][0], activation=_activation(network, call), name=call.name)


def _activation(network: Network, call: Call) -> Any:
    """The function that the answer comes from, as Keras takes it; None where it is linear."""
    import keras

    name = type(call.layer).__name__
    if callable(getattr(call.layer, "activation", None)):
        return call.layer.activation
    if name in ("Softmax", "Sigmoid", "ReLU", "Relu"):
        return keras.activations.get(name.lower())
    if name in ("Dropout", "Identity", "Reshape", "Flatten") and call.inputs:
        return _activation(network, network.producer(call.inputs[0]))
    return None


def _student(
    network: Network, entry: Call, end: End, chosen: str, options: Options, context: Context
) -> Any:
    """The student with fresh weights, of the model's own name, input and output."""
    import keras

    given = keras.Input(entry.shapes[0][1:], dtype=entry.layer.dtype, name=entry.name)
    build = import_module(ZOO[chosen]).build
    features = build(given, options.width, options.depth, context.channels)
    answer = keras.layers.Dense(end.size, activation=end.activation, name=end.name)(features)
    model = keras.Model(
        keras.tree.map_structure(lambda _: given, network.inputs),
        keras.tree.map_structure(lambda _: answer, network.outputs),
        name=network.name,
    )
    random = np.random.default_rng((context.seed, DRAW))
    for layer in model.layers:
        if kind(layer) not in KERNELS:
            continue
        shape = variable(layer).shape
        fan = math.prod(shape[:-2] if kind(layer) in DEPTHWISE else shape[:-1])
        # He et al. 2015; the answer starts near zero, where no class is preferred.
        scale = math.sqrt((0.1 if layer.name == end.name else 2.0) / fan)
        variable(layer).assign(scale * random.standard_normal(shape))
    return model
