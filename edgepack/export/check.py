"""What an exported file promises: it parses, is named, fixed in shape, and of the right types."""

from __future__ import annotations

from edgepack.errors import ModelError
from edgepack.export.flatbuffer import KEY, not_finite
from edgepack.graph.parse import parse
from edgepack.graph.types import Graph, Operator
from edgepack.model.load import Model
from edgepack.spec.recipe import Recipe

ENDS = {"int8": "int8", "int4": "int8", "int16x8": "int16"}
BRIDGES = frozenset({"QUANTIZE", "DEQUANTIZE"})
BUG = "this is a bug in edgepack or its quantiser: report it with the model"


def check_structure(content: bytes, model: Model, recipe: Recipe) -> None:
    """Raises ModelError where ``content`` breaks a promise of its scheme."""
    graph = parse(content, model.name)
    signature = next((s for s in graph.signatures if s.key == KEY), None)
    if signature is None or not all(
        [*found] == [spec.name for spec in specs]
        for found, specs in ((signature.inputs, model.inputs), (signature.outputs, model.outputs))
    ):
        raise ModelError(f"{model.name}: the export lost its signature's names", BUG)
    _check_ends(graph, model, recipe)
    for operator in graph.main.operators:
        if operator.flex and not recipe.allow_flex:
            raise ModelError(
                f"{model.name}: the export needs TensorFlow's operator {operator.name}",
                "set allow_flex = true in the recipe where the target's runtime has them",
            )
    if (tensor := not_finite(content)) is not None:
        raise ModelError(f"{model.name}: the export's constant '{tensor}' holds NaN", BUG)


def _check_ends(graph: Graph, model: Model, recipe: Recipe) -> None:
    """Shapes and dtypes of inputs and outputs."""
    integer = ENDS.get(recipe.scheme) if recipe.io == "integer" else None
    main = graph.main
    for spec, index in zip(
        (*model.inputs, *model.outputs), (*main.inputs, *main.outputs), strict=True
    ):
        tensor = main.tensors[index]
        if tensor.dynamic or tensor.shape != spec.shape:
            raise ModelError(
                f"{model.name}: '{spec.name}' became {tensor.shape_signature}, not {spec.shape}",
                "save the model with a fixed shape",
            )
        allowed = {spec.dtype} | ({integer} if integer else set())
        if recipe.scheme == "mixed":
            allowed |= {"int8", "int16"}
        if tensor.dtype not in allowed or (
            integer and spec.dtype == "float32" and tensor.dtype != integer
        ):
            raise ModelError(
                f"{model.name}: '{spec.name}' became {tensor.dtype}, "
                f"not {integer or spec.dtype} as {recipe.scheme} promises",
                'choose io = "float32" in the recipe, or another scheme',
            )


def left_float(content: bytes) -> tuple[str, ...]:
    """The operators of an integer model that still compute in float32, sorted."""
    main = parse(content, "model").main

    def computes_floats(operator: Operator) -> bool:
        if operator.name in BRIDGES:
            return False
        return any(main.tensors[i].dtype == "float32" for i in operator.outputs)

    return tuple(sorted({o.name for o in main.operators if computes_floats(o)}))
