"""A SavedModel folder, taken by its signature; nothing of Keras is needed to run or export it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgepack.errors import ModelError
from edgepack.model.specs import Shapes, check_names, fixed
from edgepack.records import TensorSpec

TOUCHES_THE_MACHINE = frozenset(
    {"PyFunc", "PyFuncStateless", "EagerPyFunc", "ReadFile", "WriteFile", "MatchingFiles"}
)


def signature(path: Path, shapes: Shapes) -> tuple[Any, tuple[TensorSpec, ...]]:
    """(the concrete function of the signature, its inputs sorted by name).

    The function holds the model alive. Raises ModelError for a damaged folder, one without a
    signature, and a graph that reads or writes files or calls Python.
    """
    _check_operators(path)
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as exc:
        reason = (str(exc).splitlines() or [type(exc).__name__])[0]
        raise ModelError(
            f"{path}: damaged SavedModel: {reason}", "export or copy the model again"
        ) from exc
    found = dict(getattr(loaded, "signatures", {}))
    if not found:
        raise ModelError(
            f"{path}: this SavedModel has no signature",
            "export it with model.export(folder), or pass signatures= to tf.saved_model.save",
        )
    key = "serving_default" if "serving_default" in found else sorted(found)[0]
    if key not in ("serving_default", "serve") and len(found) > 1:
        raise ModelError(
            f"{path}: which signature is meant? It has " + ", ".join(sorted(found)),
            "export the model with one signature, or name it serving_default",
        )
    function = found[key]
    function._edgepack_model = loaded
    given = function.structured_input_signature[1]
    check_names(shapes, sorted(given), path)
    return function, tuple(
        fixed(name, _shape(spec), spec.dtype.name, shapes, path)
        for name, spec in sorted(given.items())
    )


def outputs(function: Any, inputs: tuple[TensorSpec, ...], path: Path) -> tuple[TensorSpec, ...]:
    """What the signature returns for inputs of those shapes, sorted by name."""
    declared = function.structured_outputs
    if any(None in (_shape(spec) or (None, None))[1:] for spec in declared.values()):
        declared = traced(function, inputs, path).structured_outputs
    return tuple(
        fixed(name, _shape(spec), spec.dtype.name, {}, path)
        for name, spec in sorted(declared.items())
    )


def traced(function: Any, inputs: tuple[TensorSpec, ...], path: Path) -> Any:
    """The signature as a concrete function of exactly those input shapes."""
    import tensorflow as tf

    wanted = {spec.name: tf.TensorSpec(spec.shape, spec.dtype, name=spec.name) for spec in inputs}
    try:
        return tf.function(
            lambda **given: function(**given), autograph=False
        ).get_concrete_function(**wanted)
    except (ValueError, TypeError, tf.errors.OpError) as exc:
        reason = (str(exc).splitlines() or [type(exc).__name__])[0]
        raise ModelError(f"{path}: does not take these shapes: {reason}", "") from exc


def _shape(spec: Any) -> list[int | None] | None:
    return None if spec.shape.rank is None else spec.shape.as_list()


def _check_operators(path: Path) -> None:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel()
    try:
        proto.ParseFromString((path / "saved_model.pb").read_bytes())
    except (DecodeError, OSError) as exc:
        raise ModelError(
            f"{path}: its saved_model.pb is damaged: {exc}", "export or copy the model again"
        ) from exc
    for graph in proto.meta_graphs:
        nodes = [*graph.graph_def.node]
        for defined in graph.graph_def.library.function:
            nodes.extend(defined.node_def)
        for node in nodes:
            if node.op in TOUCHES_THE_MACHINE:
                raise ModelError(
                    f"{path}: its node '{node.name}' ({node.op}) reaches out of the model",
                    "export the model without file access and Python functions",
                )
