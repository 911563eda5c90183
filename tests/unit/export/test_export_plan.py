"""Which operator gets which scheme, and what litert-quantizer is told."""

from __future__ import annotations

import re

import pytest

from edgepack.errors import SpecError
from edgepack.export.plan import assigned
from edgepack.export.quantizer import entries
from edgepack.graph.types import Operator, Subgraph, Tensor
from edgepack.spec.recipe import Recipe, Selection


def tensor(index: int, name: str, data: bytes | None = None) -> Tensor:
    return Tensor(
        index=index, name=name, shape=(1, 4), shape_signature=(1, 4), dtype="float32",
        data=memoryview(data) if data else None,
    )  # fmt: skip


def chain() -> Subgraph:
    weights = b"\0" * 16
    tensors = (
        tensor(0, "x"), tensor(1, "w0", weights), tensor(2, "net_1/stem_1/Relu;net_1/stem_1/Conv"),
        tensor(3, "w1", weights), tensor(4, "net_1/body/Conv"), tensor(5, "net_1/pool/Mean"),
        tensor(6, "w2", weights), tensor(7, "net_1/head/MatMul"),
    )  # fmt: skip
    operators = (
        Operator(index=0, name="CONV_2D", version=1, inputs=(0, 1), outputs=(2,)),
        Operator(index=1, name="CONV_2D", version=1, inputs=(2, 3), outputs=(4,)),
        Operator(index=2, name="MEAN", version=1, inputs=(4, -1), outputs=(5,)),
        Operator(index=3, name="FULLY_CONNECTED", version=1, inputs=(5, 6), outputs=(7,)),
    )
    return Subgraph(
        index=0, name="main", tensors=tensors, operators=operators, inputs=(0,), outputs=(7,)
    )


LAYERS = {"stem": "Conv2D", "body": "Conv2D", "pool": "GlobalAveragePooling2D", "head": "Dense"}


def mixed(*selections: tuple[str, str], otherwise: str = "int8") -> Recipe:
    return Recipe(
        id="m",
        scheme="mixed",
        otherwise=otherwise,
        mixed=tuple(Selection(layers=layers, scheme=scheme) for layers, scheme in selections),
    )


def schemes_of(recipe: Recipe) -> list[str]:
    return [step.scheme for step in assigned(chain(), recipe, LAYERS)]


def test_one_scheme_for_all():
    assert schemes_of(Recipe(id="i", scheme="int8")) == ["int8"] * 4


@pytest.mark.parametrize(
    ("layers", "hits"),
    [
        ("stem", [0]),
        ("body", [1]),
        ("ste", []),
        ("@first", [0]),
        ("@last", [3]),
        ("@first|@last", [0, 3]),
        ("@CONV_2D", [0, 1]),
        ("head|pool", [2, 3]),
        ("MatMul", [3]),
    ],
)
def test_a_selection_matches_whole_names(layers, hits):
    recipe = mixed((layers, "float32"))
    if not hits:
        with pytest.raises(SpecError, match="matches no layer") as caught:
            schemes_of(recipe)
        assert "stem" in caught.value.hint
        return
    assert [i for i, scheme in enumerate(schemes_of(recipe)) if scheme == "float32"] == hits


def test_the_first_selection_wins():
    recipe = mixed(("stem", "float32"), ("@CONV_2D", "int16x8"))
    assert schemes_of(recipe) == ["float32", "int16x8", "int8", "int8"]


def test_selections_without_keras_layers_name_the_tensors():
    with pytest.raises(SpecError) as caught:
        assigned(chain(), mixed(("nothing", "float32")), {})
    assert "body" in caught.value.hint


def test_the_schemes_of_a_recipe():
    assert Recipe(id="i", scheme="int4").schemes == ("int4",)
    assert mixed(("stem", "float32"), otherwise="int16x8").schemes == ("float32", "int16x8")


def winning(made: list[dict], op: str, scope: str) -> dict:
    """The entry that litert-quantizer follows: the last one that fits."""
    return [e for e in made if re.search(e["regex"], scope) and e["operation"] in ("*", op)][-1]


def test_entries_of_int4_narrow_only_convolutions_and_dense_layers():
    made = entries(assigned(chain(), Recipe(id="i", scheme="int4"), LAYERS), "integer")
    bits = {
        op: winning(made, op, "any;")["op_config"]["weight_tensor_config"]["num_bits"]
        for op in ("CONV_2D", "FULLY_CONNECTED", "DEPTHWISE_CONV_2D", "MEAN")
    }
    assert bits == {"CONV_2D": 4, "FULLY_CONNECTED": 4, "DEPTHWISE_CONV_2D": 8, "MEAN": 8}


@pytest.mark.parametrize(
    ("scheme", "io", "ends"),
    [
        ("int8", "integer", "min_max_uniform_quantize"),
        ("int8", "float32", "no_quantize"),
        ("dynamic", "integer", "no_quantize"),
        ("float16", "integer", "no_quantize"),
    ],
)
def test_entries_of_inputs(scheme, io, ends):
    made = entries(assigned(chain(), Recipe(id="i", scheme=scheme), LAYERS), io)
    assert winning(made, "INPUT", "x;")["algorithm_key"] == ends


def test_entries_share_one_scale_where_asked():
    made = entries(
        assigned(chain(), Recipe(id="i", scheme="dynamic"), LAYERS), "integer", {"CONV_2D"}
    )
    grain = {
        op: winning(made, op, "any;")["op_config"]["weight_tensor_config"]["granularity"]
        for op in ("CONV_2D", "FULLY_CONNECTED")
    }
    assert grain == {"CONV_2D": "TENSORWISE", "FULLY_CONNECTED": "CHANNELWISE"}


def test_entries_of_a_mixed_plan():
    plan = assigned(
        chain(), mixed(("stem", "float32"), ("head", "int16x8"), ("body", "float16")), LAYERS
    )
    made = entries([*plan, plan[2], plan[2]], "float32")
    assert winning(made, "CONV_2D", plan[0].scope)["algorithm_key"] == "no_quantize"
    assert winning(made, "CONV_2D", plan[1].scope)["algorithm_key"] == "float_casting"
    wide = winning(made, "FULLY_CONNECTED", plan[3].scope)["op_config"]
    assert wide["activation_tensor_config"]["num_bits"] == 16
    rest = winning(made, "MEAN", plan[2].scope)["op_config"]
    assert rest["activation_tensor_config"]["num_bits"] == 8
