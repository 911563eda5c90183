"""BatchNormalization folded into the weights of the layer beside it; the answers stay the same.

After a convolution or Dense layer it scales the layer's output channels and shifts its bias.
Before one it scales the input channels, which is exact only where no zeros are padded in between.
Jacob et al. 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.channels import Floats, kernel_name, over_channels, scaled, with_bias
from edgepack.passes.constraints import Constraint, Mask, Palette, Signs
from edgepack.passes.layers import (
    DENSE,
    DEPTHWISE,
    KERNELS,
    SEPARABLE,
    has,
    kind,
    shared_axes,
    variable,
)
from edgepack.passes.network import Call, Network, read, rebuild
from edgepack.spec.fields import FORBID

BIASED = (*KERNELS, *SEPARABLE)
NORM = "BatchNormalization"


@dataclass(frozen=True, kw_only=True)
class Options:
    """None: whatever can be folded exactly is."""

    __pydantic_config__ = FORBID


@dataclass(frozen=True, kw_only=True, eq=False)
class Folded:
    """A model with fewer normalisations, its constraints, and what was done in words."""

    model: Any
    constraints: tuple[Constraint, ...]
    changed: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Weights:
    """A layer's new kernel and bias; ``scale`` is what each output channel was multiplied by."""

    norm: str
    kernel: Floats
    bias: Floats
    scale: Floats | None


@dataclass
class _Plan:
    """What one round folds: new weights by the layer's id, and the calls that fall away."""

    weights: dict[int, _Weights] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)
    skipped: list[tuple[str, str]] = field(default_factory=list)


def apply(candidate: Candidate, options: Options, context: Context) -> Candidate:
    """Fold every normalisation that can be folded exactly into a selected layer."""
    made = folded(candidate, context.select)
    return candidate.then(
        "fold",
        made.model,
        changed=made.changed,
        skipped=made.skipped,
        constraints=made.constraints,
    )


def folded(candidate: Candidate, select: Callable[[Any], bool] = lambda layer: True) -> Folded:
    """A copy of the candidate's model without the normalisations that fold into selected layers.

    Each layer that takes one in keeps its name and has a bias. Constraints hold on.
    """
    model, constraints = candidate.model, candidate.constraints
    changed: list[str] = []
    while True:
        network = read(model)
        plan = _planned(network, select, constraints)
        model = _folded_model(network, plan)
        for layer in network.layers():
            if id(layer) in plan.weights:
                name = _name(network, layer)
                weights = plan.weights[id(layer)]
                changed.append(f"{name}: takes in {weights.norm}")
                constraints, notes = _kept(constraints, name, model.get_layer(name), weights)
                changed.extend(notes)
        if not plan.weights:
            return Folded(
                model=model,
                constraints=constraints,
                changed=tuple(changed),
                skipped=tuple(plan.skipped),
            )


def linear(layer: Any) -> bool:
    """Whether a layer has no activation of its own."""
    import keras

    return getattr(layer, "activation", None) in (None, keras.activations.linear)


def plain(layer: Any) -> bool:
    """Whether a layer is Keras's own kind with float weights, not one that quantises."""
    return (
        type(layer).__name__ in BIASED
        and kind(layer) == type(layer).__name__
        and getattr(layer, "quantization_mode", None) is None
    )


def _planned(
    network: Network, select: Callable[[Any], bool], constraints: Sequence[Constraint]
) -> _Plan:
    """Each normalisation's fate. A layer takes in at most one a round."""
    plan = _Plan()
    for norm in (layer for layer in network.layers() if type(layer).__name__ == NORM):
        calls = [call for call in network.calls if call.layer is norm]
        why = _into_producer(network, calls, select, plan)
        if why:
            instead = _into_consumer(network, calls, select, constraints, plan)
            why = instead and f"{why}; {instead}"
        if why:
            plan.skipped.append((calls[0].name, why))
    return plan


def _into_producer(
    network: Network, norms: Sequence[Call], select: Callable[[Any], bool], plan: _Plan
) -> str:
    """Fold into the layer before; why not, or an empty string."""
    befores = [network.producer(norm.inputs[0]) for norm in norms]
    layer = befores[0].layer
    if not plain(layer):
        by_itself = ", which quantises by itself" if kind(layer) in BIASED else ""
        return f"it follows {befores[0].name}, a {kind(layer)}{by_itself}"
    if not select(layer):
        return f"{befores[0].name} is not selected"
    if not linear(layer):
        return f"{befores[0].name} has an activation before it"
    users = {id(user.layer) for call in befores for user in network.consumers[call.output]}
    if any(call.layer is not layer for call in befores) or (
        network.uses[id(layer)] != len({call.index for call in befores})
    ):
        return "layers are shared that do not follow each other everywhere"
    if len(users) > 1 or any(call.output in network.ends for call in befores):
        return f"{befores[0].name} is also used without it"
    if why := _odd(norms, layer):
        return why
    if id(layer) in plan.weights:
        return ""  # the next round takes it
    scale, shift = _affine(norms[0].layer)
    kernel, bias = _weights(layer, len(scale))
    plan.weights[id(layer)] = _Weights(
        norm=norms[0].name,
        kernel=kernel * over_channels(layer, scale),
        bias=bias * scale + shift,
        scale=scale,
    )
    plan.gone.update(norm.index for norm in norms)
    return ""


def _into_consumer(
    network: Network,
    norms: Sequence[Call],
    select: Callable[[Any], bool],
    constraints: Sequence[Constraint],
    plan: _Plan,
) -> str:
    """Fold into the layer after; why not, or an empty string."""
    users = network.consumers.get(norms[0].output, ())
    if len(norms) > 1 or len(users) != 1 or norms[0].output in network.ends:
        return "its output is used more than once"
    name, layer = users[0].name, users[0].layer
    if not plain(layer) or kind(layer) in SEPARABLE or kind(layer).endswith("Transpose"):
        return f"{name} after it is a {kind(layer)}"
    if not select(layer):
        return f"{name} after it is not selected"
    if network.uses[id(layer)] > 1:
        return f"{name} after it is shared"
    if kind(layer) not in DENSE and layer.padding != "valid" and max(layer.kernel_size) > 1:
        return f"{name} after it pads with zeros"
    if getattr(layer, "groups", 1) > 1:
        return f"{name} after it is grouped"
    if any(c.layer == name and not isinstance(c, Mask) for c in constraints):
        return f"{name} after it has a palette or signs, which a scale per input would break"
    if why := _odd(norms, layer):
        return why
    if id(layer) in plan.weights:
        return ""  # the next round takes it
    scale, shift = _affine(norms[0].layer)
    outputs = variable(layer).shape[-1] * (len(scale) if kind(layer) in DEPTHWISE else 1)
    kernel, bias = _weights(layer, outputs)
    moved = (kernel * shift[:, None]).sum(shared_axes(layer)).reshape(-1)
    plan.weights[id(layer)] = _Weights(
        norm=norms[0].name, kernel=kernel * scale[:, None], bias=bias + moved, scale=None
    )
    plan.gone.add(norms[0].index)
    return ""


def _odd(norms: Sequence[Call], layer: Any) -> str:
    """Why a normalisation is not one constant scale and shift per channel of ``layer``."""
    if any(norm.kwargs.get("training") for norm in norms):
        return "it normalises by the batch also in inference"
    rank = len(norms[0].shapes[0])
    first = kind(layer) not in DENSE and layer.data_format == "channels_first"
    if norms[0].layer.axis % rank != (1 if first else rank - 1):
        return "it normalises another axis than the channels"
    return ""


def _affine(norm: Any) -> tuple[Floats, Floats]:
    """(scale, shift) of each channel in inference."""
    found = {weight.name: weight.numpy().astype(np.float64) for weight in norm.weights}
    scale = found.get("gamma", 1.0) / np.sqrt(found["moving_variance"] + norm.epsilon)
    return scale, found.get("beta", 0.0) - found["moving_mean"] * scale


def _weights(layer: Any, channels: int) -> tuple[Floats, Floats]:
    kernel = variable(layer, kernel_name(layer)).numpy().astype(np.float64)
    bias = layer.bias.numpy().astype(np.float64) if has(layer, "bias") else np.zeros(channels)
    return kernel, bias


def _folded_model(network: Network, plan: _Plan) -> Any:
    """The network without the calls that fell away, the layers' new weights in place."""
    import keras

    made: dict[int, Any] = {}

    def change(call: Call, inputs: Sequence[Any], clone: Callable[[Any], Any]) -> Any:
        if call.index in plan.gone:
            if call.output in network.ends:  # keeps the output's name
                return keras.layers.Identity(name=call.name)(inputs[0])
            return inputs[0]
        if id(call.layer) not in plan.weights:
            return None
        if id(call.layer) not in made:
            made[id(call.layer)] = with_bias(call.layer, call.name)
        return made[id(call.layer)](inputs[0])

    model = rebuild(network, change)
    for layer in network.layers():
        if id(layer) in made:
            new, weights = made[id(layer)], plan.weights[id(layer)]
            for weight in layer.weights:
                variable(new, weight.name).assign(weight)
            variable(new, kernel_name(layer)).assign(weights.kernel.astype(np.float32))
            variable(new, "bias").assign(weights.bias.astype(np.float32))
    return model


def _name(network: Network, layer: Any) -> str:
    return next(call.name for call in network.calls if call.layer is layer)


def _kept(
    constraints: Sequence[Constraint], name: str, layer: Any, weights: _Weights
) -> tuple[tuple[Constraint, ...], list[str]]:
    """The constraints after ``layer``'s output channels were scaled, and what changed of them."""
    kept: list[Constraint] = []
    notes: list[str] = []
    for constraint in constraints:
        new = constraint
        if (
            weights.scale is not None
            and constraint.layer == name
            and (constraint.weight == kernel_name(layer))
        ):
            new = scaled(constraint, layer, weights.scale)
        if isinstance(new, Palette) and new is not constraint:
            notes.append(f"{name}: each output channel now has a palette of its own")
        if isinstance(new, Signs) and new.axes != getattr(constraint, "axes", None):
            notes.append(f"{name}: the signs of each output channel now have a scale of their own")
        kept.append(new)
    return tuple(kept), notes
