"""Activations that cost much in integers, such as swish and GELU, become cheap ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.fit import fit, trained
from edgepack.passes.network import Call, Network, read, rebuild
from edgepack.spec.fields import FORBID

Name = Literal["swish", "hard-swish", "gelu", "mish", "elu", "selu", "celu", "leaky-relu"]
COSTLY: tuple[Name, ...] = (
    "swish", "hard-swish", "gelu", "mish", "elu", "selu", "celu", "leaky-relu",
)  # fmt: skip
KERAS = {"swish": "silu", "hard-swish": "hard_silu", "leaky-relu": "leaky_relu"}
"""Names that Keras spells differently."""
LAYERS = {"ELU": "elu", "LeakyReLU": "leaky-relu"}
GATES = {"sigmoid": "swish", "hard_sigmoid": "hard-swish"}
"""Functions that make, times their own input, an activation."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which become what.

    ``replace`` lists activations to take away, ``to`` is what comes instead. Hard-swish is near
    to swish and GELU; ReLU6 differs from all of them, so let the step train.
    """

    __pydantic_config__ = FORBID
    replace: tuple[Name, ...] = COSTLY
    to: Literal["relu6", "relu", "hard-swish", "leaky-relu"] = "relu6"


def apply(candidate: Candidate, options: Options, context: Context) -> Candidate:
    """Replace activations within layers, between them, and gates of a product."""
    import keras

    network = read(candidate.model)
    wanted = set(options.replace) - {options.to}
    target = keras.activations.get(KERAS.get(options.to, options.to))
    changed: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for call in network.calls:
        found = activation(network, call)
        if found not in wanted or call.name in changed:
            continue
        if not context.select(call.layer):
            skipped[call.name] = f"{found}, but not selected"
        elif call.output in network.ends:
            skipped[call.name] = f"its {found} is what the model answers"
        else:
            changed[call.name] = f"{call.name}: {found} → {options.to}"
    for name in set(changed) & set(skipped):  # a shared layer that also ends the model
        del changed[name]
    made: dict[str, Any] = {}

    def change(call: Call, inputs: Sequence[Any], clone: Any) -> Any:
        if call.name not in changed:
            return None
        if _fused(call.layer):
            layer = clone(call.layer)
            layer.activation = target
        else:
            layer = made.setdefault(call.name, keras.layers.Activation(target, name=call.name))
        return layer(inputs[_plain(network, call)])

    model = rebuild(network, change)
    history = fit(model, context, label="activations", constraints=candidate.constraints)
    return candidate.then(
        "activations",
        model,
        changed=[*changed.values(), *trained(history)],
        skipped=skipped.items(),
    )


def activation(network: Network, call: Call) -> str | None:
    """The activation that a call ends with, as recipes name it; None where it has none."""
    layer = call.layer
    name = type(layer).__name__
    if name in LAYERS:
        return LAYERS[name]
    if _fused(layer):
        return _named(getattr(layer.activation, "__name__", ""))
    if name == "Multiply" and len(call.inputs) == 2:
        return _gated(network, call)
    if len(call.inputs) != 1 or getattr(layer, "weights", None):
        return None
    return _named({"LeakyRelu": "leaky_relu", "HardSilu": "hard_silu"}.get(name, name.lower()))


def _fused(layer: Any) -> bool:
    """Whether a layer applies an activation that can be exchanged by itself."""
    return (
        callable(getattr(layer, "activation", None))
        and not hasattr(layer, "recurrent_kernel")
        and not hasattr(layer, "cell")
    )


def _named(function: str) -> str | None:
    spelled = {keras: ours for ours, keras in KERAS.items()}
    name = spelled.get(function, function)
    return name if name in COSTLY else None


def _gated(network: Network, call: Call) -> str | None:
    """The activation that x · gate(x) is."""
    return GATES.get(_gate(network, call, 1)) or GATES.get(_gate(network, call, 0))


def _gate(network: Network, call: Call, place: int) -> str:
    """The function at ``place`` of a product's inputs, if it is applied to the other input."""
    source = network.producer(call.inputs[place])
    if not source.inputs or source.inputs[0] != call.inputs[1 - place]:
        return ""
    layer = source.layer
    if type(layer).__name__ == "Activation":
        return str(layer.activation.__name__)
    return {"Sigmoid": "sigmoid", "HardSigmoid": "hard_sigmoid"}.get(type(layer).__name__, "")


def _plain(network: Network, call: Call) -> int:
    """Which of a call's inputs the activation is of: in a product, the one that is no gate."""
    if len(call.inputs) == 2 and GATES.get(_gate(network, call, 0)):
        return 1
    return 0
