"""A converter's pages of MLIR as one line: which operators, which Keras layer, what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from edgepack.errors import ModelError
from edgepack.model.load import Model

LACKING = re.compile(r"'tf\.(\w+)' op is neither a custom op nor a flex op")
LISTED = re.compile(r"^(?:Custom|Flex) ops: (.+)$", re.MULTILINE)
REPLACE = (
    "replace that layer by one of plain Keras layers that TensorFlow Lite knows, "
    "or set allow_flex = true in the recipe where the target's runtime can run TensorFlow ops"
)


def explained(exc: Exception, model: Model, chatter: str = "", function: Any = None) -> ModelError:
    """The error with the operators that TensorFlow Lite lacks and the layers that use them.

    ``function`` is the traced function, in whose graph the operators are looked up.
    """
    text = f"{exc}\n{chatter}"
    lacking = sorted({*LACKING.findall(text), *_listed(text)})
    if lacking:
        layers = _users(model, function, lacking)
        who = f"layer {', '.join(layers)} uses" if layers else "it uses"
        return ModelError(
            f"{model.name}: {who} {', '.join(lacking)}, which TensorFlow Lite does not have",
            REPLACE,
        )
    line = next((part.strip() for part in text.splitlines() if part.strip()), type(exc).__name__)
    layer = _layer_in(model, text)
    where = f"layer '{layer}' cannot be converted" if layer else "cannot be converted"
    return ModelError(
        f"{model.name}: {where}: {line[:300]}",
        "save the model with fixed shapes and plain Keras layers; --debug shows the whole log",
    )


def _listed(text: str) -> list[str]:
    found = [name.strip() for line in LISTED.findall(text) for name in line.split(",")]
    return [name.removeprefix("Flex") for name in found if name]


def _users(model: Model, function: Any, operators: list[str]) -> list[str]:
    """The Keras layers, else the graph's scopes, in which these operators stand."""
    known = layer_names(model)
    found: dict[str, None] = {}
    traced = list(nodes(function))
    renamed = suffixed((node.name for node in traced), known)
    for node in traced:
        if node.type in operators:
            layer = layer_of(node.name, known, renamed=renamed)
            scope = node.name.rpartition("/")[0] or node.name
            found[f"'{layer}' ({known[layer]})" if layer else f"'{scope}'"] = None
    return list(found)


def nodes(function: Any) -> Iterator[Any]:
    """The operations of a traced function and of the functions that it calls."""
    if function is None:
        return
    waiting, seen = [function.graph], set()
    while waiting:
        graph = waiting.pop()
        if id(graph) in seen:
            continue
        seen.add(id(graph))
        yield from graph.get_operations()
        waiting += [inner.graph for inner in getattr(graph, "_functions", {}).values()
                    if hasattr(inner, "graph")]  # fmt: skip


def layer_names(model: Model) -> dict[str, str]:
    """Name → class of every Keras layer, nested ones too; empty without Keras."""
    if model.keras is None:
        return {}
    flat = model.keras._flatten_layers(include_self=False, recursive=True)
    return {layer.name: type(layer).__name__ for layer in flat}


def layer_of(scope: str, known: dict[str, str], *, renamed: bool = False) -> str | None:
    """The innermost known layer in a scope such as ``functional_1/dense_1/MatMul``.

    Tracing may append ``_1`` to a layer's name to keep scopes apart. Where it did so with every
    layer (``renamed``), ``dense_1`` is the layer ``dense``, even if there is a ``dense_1`` too.
    """
    for part in reversed(re.split(r"[/;:@]", scope)):
        for name in (_plain(part), part) if renamed else (part, _plain(part)):
            if name in known:
                return name
    return None


def suffixed(scopes: Iterable[str], known: dict[str, str]) -> bool:
    """Whether tracing has appended a number to every layer's name in these scopes.

    An operator's own name, the last of a path, says nothing: some are called as layers are.
    """
    paths = {part for scope in scopes for part in scope.split(";")}
    parts = {name for path in paths for name in re.split(r"[/:@]", path)[:-1]}
    told = [part for part in parts if part in known or _plain(part) in known]
    return bool(told) and all(_plain(part) != part and _plain(part) in known for part in told)


def _plain(name: str) -> str:
    return re.sub(r"_\d+$", "", name)


def _layer_in(model: Model, text: str) -> str | None:
    """A layer that an exception's text names in quotes."""
    known = layer_names(model)
    quoted = re.findall(r"""["'<]([\w/]+)["'>]""", text) + re.findall(r"name=(\w+)", text)
    return next((name for name in (layer_of(part, known) for part in quoted) if name), None)
