"""A Keras model as a flat graph of calls, and a new model from it with some calls changed.

Nested models are unfolded, shared layers stay shared. Every pass that changes the architecture
reads the graph with ``read`` and makes a new model with ``rebuild``; the given model stays as it
is. Layer names are kept, because constraints and selectors go by them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from edgepack.errors import ModelError


@dataclass(frozen=True)
class Value:
    """The ``place``-th output of the call ``call``."""

    call: int
    place: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """One use of a layer or Keras operation; its arguments hold ``Value`` where tensors go.

    ``name`` is the layer's, prefixed with that of the model it was nested in where it must be.
    """

    index: int
    layer: Any
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    shapes: tuple[tuple[int | None, ...], ...]

    @cached_property
    def inputs(self) -> tuple[Value, ...]:
        """The tensors it takes, in order."""
        return tuple(_values((self.args, dict(self.kwargs))))

    @property
    def output(self) -> Value:
        """Its first output."""
        return Value(self.index)


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """Calls in topological order; those of InputLayers come first, as ``inputs`` lists them.

    ``outputs`` has the structure of the model's output. ``name`` is the model's.
    """

    name: str
    calls: tuple[Call, ...]
    inputs: Any
    outputs: Any

    @cached_property
    def consumers(self) -> Mapping[Value, tuple[Call, ...]]:
        """The calls that take each value."""
        found: dict[Value, list[Call]] = {}
        for call in self.calls:
            for value in dict.fromkeys(call.inputs):
                found.setdefault(value, []).append(call)
        return {value: tuple(calls) for value, calls in found.items()}

    @cached_property
    def uses(self) -> Mapping[int, int]:
        """How often each layer, by ``id``, is called."""
        found: dict[int, int] = {}
        for call in self.calls:
            found[id(call.layer)] = found.get(id(call.layer), 0) + 1
        return found

    @cached_property
    def ends(self) -> frozenset[Value]:
        """The values that the model returns."""
        return frozenset(_values(self.outputs))

    def producer(self, value: Value) -> Call:
        """The call that a value comes from."""
        return self.calls[value.call]

    def layers(self) -> list[Any]:
        """Each layer or operation once, in the order of its first call."""
        return list({id(call.layer): call.layer for call in self.calls}.values())


Clone = Callable[[Any], Any]
"""The new model's copy of a layer: one for each layer, however often it is called."""
Change = Callable[[Call, Sequence[Any], Clone], Any]
"""(call, its new input tensors in the order of ``call.inputs``, clone) → new output(s), or None
to call a copy of the layer as before."""


def read(model: Any) -> Network:
    """The graph of a Functional or Sequential model.

    Raises ModelError for a subclassed model, which has none.
    """
    import keras

    calls: list[Call] = []
    names: dict[str, int] = {}
    inputs = keras.tree.map_structure(lambda _: None, functional(model).input)
    flat = [
        _add(calls, names, _input_layer(tensor), "", (), {}, [tensor])
        for tensor in keras.tree.flatten(functional(model).input)
    ]
    outputs = _unfold(functional(model), [call.output for call in flat], calls, names, "")
    return Network(
        name=model.name,
        calls=tuple(calls),
        inputs=keras.tree.pack_sequence_as(inputs, [call.output for call in flat]),
        outputs=outputs,
    )


def functional(model: Any) -> Any:
    """The Functional model that holds the graph. Raises ModelError where there is none."""
    import keras

    if isinstance(model, keras.Sequential):
        if not model.built:
            raise ModelError(f"{model.name}: was never built", "give its first layer an Input")
        return model._functional
    if getattr(model, "_operations_by_depth", None) is None or not hasattr(model, "_nodes"):
        raise ModelError(
            f"{model.name}: a {type(model).__name__} model has no graph that passes could change",
            "build it with the functional API, or use a recipe that only exports",
        )
    return model


def is_nested(layer: Any) -> bool:
    """Whether a layer is itself a model with a graph, which ``read`` unfolds."""
    import keras

    return isinstance(layer, keras.Sequential) or (
        isinstance(layer, keras.Model) and getattr(layer, "_operations_by_depth", None) is not None
    )


def _input_layer(tensor: Any) -> Any:
    return tensor._keras_history.operation


def _unfold(
    model: Any, given: Sequence[Value], calls: list[Call], names: dict[str, int], prefix: str
) -> Any:
    """Add the calls of a Functional model fed with ``given``; its outputs' values."""
    import keras

    known: dict[int, Value] = {
        id(tensor): value
        for tensor, value in zip(keras.tree.flatten(model.input), given, strict=True)
    }

    def place(item: Any) -> Any:
        return known[id(item)] if isinstance(item, keras.KerasTensor) else item

    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.is_input:
                continue
            args = keras.tree.map_structure(place, node.arguments.args)
            kwargs = keras.tree.map_structure(place, node.arguments.kwargs)
            layer = node.operation
            if is_nested(layer):
                inner = functional(layer)
                fed = list(_values((args, kwargs)))
                made = _unfold(inner, fed, calls, names, f"{prefix}{layer.name}_")
                found = list(_values(made))
            else:
                call = _add(calls, names, layer, prefix, args, kwargs, node.outputs)
                found = [Value(call.index, i) for i in range(len(node.outputs))]
            known.update(zip((id(tensor) for tensor in node.outputs), found, strict=True))
    return keras.tree.map_structure(place, model._outputs_struct)


def _add(
    calls: list[Call],
    names: dict[str, int],
    layer: Any,
    prefix: str,
    args: Any,
    kwargs: Any,
    outputs: Sequence[Any],
) -> Call:
    name = layer.name
    if names.setdefault(name, id(layer)) != id(layer):
        name = prefix + name
        while names.setdefault(name, id(layer)) != id(layer):
            name += "_"
    call = Call(
        index=len(calls),
        layer=layer,
        name=name,
        args=tuple(args),
        kwargs=dict(kwargs),
        shapes=tuple(tuple(tensor.shape) for tensor in outputs),
    )
    calls.append(call)
    return call


def _values(structure: Any) -> list[Value]:
    import keras

    return [item for item in keras.tree.flatten(structure) if isinstance(item, Value)]


def rebuild(network: Network, change: Change | None = None) -> Any:
    """A new Functional model of the network: copies of its layers with their weights.

    ``change`` may answer a call with tensors of its own. Input names, the structure of inputs
    and outputs, layer names and weights are kept; the batch is left open. A layer that ``change``
    brings in needs a name that no other has.
    """
    import keras

    copies: dict[int, Any] = {}
    known: dict[Value, Any] = {}

    def clone(layer: Any) -> Any:
        if id(layer) not in copies:
            call = next(call for call in network.calls if call.layer is layer)
            copies[id(layer)] = copied(layer, call.name)
        return copies[id(layer)]

    def fill(item: Any) -> Any:
        return known[item] if isinstance(item, Value) else item

    for value in _values(network.inputs):
        call = network.producer(value)
        known[value] = keras.Input(call.shapes[0][1:], dtype=call.layer.dtype, name=call.name)
    for call in network.calls:
        if call.output in known:
            continue
        made = change(call, [known[value] for value in call.inputs], clone) if change else None
        if made is None:
            args = keras.tree.map_structure(fill, call.args)
            kwargs = keras.tree.map_structure(fill, dict(call.kwargs))
            made = clone(call.layer)(*args, **kwargs)
        for place, tensor in enumerate(keras.tree.flatten(made)):
            known[Value(call.index, place)] = tensor
    model = keras.Model(
        keras.tree.map_structure(fill, network.inputs),
        keras.tree.map_structure(fill, network.outputs),
        name=network.name,
    )
    for old in network.layers():
        new = copies.get(id(old))
        if new is not None and isinstance(new, keras.Layer) and old.weights and new.built:
            new.set_weights(old.get_weights())
            if isinstance(new, keras.layers.Normalization):
                new.finalize_state()
    return model


def flattened(model: Any) -> Any:
    """The model; where it holds other models, their layers in it instead, by the names of calls.

    So that every pass, and every selection of layers, means the same by a name. Raises ModelError
    where there is no graph.
    """
    import keras

    if not any(isinstance(layer, keras.Model) for layer in functional(model).layers):
        return model
    return rebuild(read(model))


def copied(layer: Any, name: str) -> Any:
    """An unbuilt copy of a layer or operation under a name; the weights are not copied."""
    import keras

    if not isinstance(layer, keras.Layer):
        return layer
    config = layer.get_config()
    config["name"] = name
    return type(layer).from_config(config)
