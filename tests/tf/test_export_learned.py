"""Exports of fake-quantised models: the learned scales, tensor by tensor, and the same answers."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from edgepack.errors import DataError
from edgepack.export import export
from edgepack.graph.constants import values
from edgepack.graph.facts import tensor_spec
from edgepack.graph.parse import parse
from edgepack.graph.plan import plan
from edgepack.graph.types import Subgraph
from edgepack.graph.values import dequantise, quantise
from edgepack.passes import qat
from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.constraints import Mask, Palette
from edgepack.passes.network import read
from edgepack.passes.placement import foldable
from edgepack.runtimes import tables
from edgepack.spec.recipe import Recipe
from tests.graphs import graph, settled
from tests.tf.export_models import Samples, as_model

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]
LITERT = tables.load("litert-2.3")
HEAVY = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "TRANSPOSE_CONV": 1}
STEPS = {8: 255, 16: 65534}


def joined(layers: Any, keras: Any) -> Any:
    """Dense and a transposed convolution with normalisation, a product, an average, swish."""
    image = keras.Input((6, 6, 2), name="image")
    x = layers.Conv2DTranspose(3, 3, 2, "same", name="up")(image)
    x = layers.ReLU(name="up_relu")(layers.BatchNormalization(name="up_norm")(x))
    y = layers.Conv2D(3, 1, activation="sigmoid", name="gate")(x)
    x = layers.Multiply(name="product")([x, y])
    x = layers.AveragePooling2D(2, name="pool")(x)
    x = layers.Conv2D(4, 3, activation="swish", name="down")(x)
    x = layers.Reshape((16, 4), name="rows")(x)
    x = layers.ReLU(name="row_relu")(
        layers.BatchNormalization(name="row_norm")(layers.Dense(5, name="row")(x))
    )
    x = layers.DepthwiseConv1D(3, depth_multiplier=2, name="along")(x)
    return keras.Model(image, layers.Dense(3, name="head")(layers.Flatten()(x)), name="joined")


def of(name: str) -> Any:
    import keras

    if name != "joined":
        return graph(name)
    keras.utils.set_random_seed(0)
    return settled(joined(keras.layers, keras))


def learn(model: Any, scheme: str, constraints: Any = (), **options: Any) -> Any:
    """The model after a qat step without training."""
    context = Context(
        teacher=model,
        scheme=scheme,
        select=lambda layer: True,
        calibration=Samples(as_model(model), 32),
    )
    given = Candidate(model=model, constraints=constraints)
    return qat.apply(given, qat.Options(**options), context).model


@cache
def made(name: str, scheme: str) -> tuple[Any, bytes, tuple[str, ...]]:
    """(Keras model with fake-quant nodes, its export without any data, notes)."""
    model = learn(of(name), scheme)
    done = export(as_model(model), Recipe(id="r", scheme=scheme), LITERT, None)
    return model, done.content, done.notes


def kernels(model: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Layer → (integers, steps folded with the batch normalisation after it), output first."""
    network, found = read(model), {}
    factors = {
        network.producer(call.inputs[0]).name: call.layer
        for call in network.calls
        if foldable(network, call)
    }
    for layer in model.layers:
        if not hasattr(layer, "weight_bits"):
            continue
        top = 2 ** (layer.weight_bits - 1) - 1
        steps = np.asarray(layer.top(), np.float64) / top
        weights = layer.kernel.numpy()
        if layer.edgepack_kind.startswith("Depthwise"):
            weights = weights.reshape(*weights.shape[:-2], -1)
        elif layer.edgepack_kind.endswith("Transpose"):
            weights = np.swapaxes(weights, -1, -2)
        rows = np.moveaxis(np.rint(weights / steps).astype(np.int64), -1, 0)
        norm, each = factors.get(layer.name), np.broadcast_to(steps, len(rows))
        if norm is not None:
            spread = np.sqrt(norm.moving_variance.numpy() + norm.epsilon)
            each = each * np.abs(norm.gamma.numpy() / spread)
        found[layer.name] = (rows.reshape(len(rows), -1), each)
    return found


def constants(main: Subgraph) -> list[tuple[np.ndarray, np.ndarray]]:
    """(integers, steps) of the file's kernels, output channels first."""
    found = []
    for operator in main.operators:
        if operator.name not in HEAVY:
            continue
        tensor = main.tensors[operator.inputs[HEAVY[operator.name]]]
        stored = values(tensor).astype(np.int64)
        rows = np.moveaxis(stored, 3, 0) if operator.name.startswith("DEPTH") else stored
        assert tensor.quantisation is not None
        found.append((rows.reshape(len(rows), -1), tensor.quantisation.scales))
    return found


CASES = [
    *(("sequential", scheme) for scheme in ("int8", "int4", "int16x8")),
    ("residual", "int8"),
    ("residual", "int16x8"),
    ("depthwise", "int8"),
    ("depthwise", "int4"),
    ("branches", "int8"),
    ("branches", "int16x8"),
    ("conv1d", "int8"),
    ("conv1d", "int4"),
    ("joined", "int8"),
    ("ends", "int8"),
]


@pytest.mark.parametrize(("name", "scheme"), CASES)
def test_kernels_have_the_learned_integers_and_steps(name, scheme):
    model, content, _ = made(name, scheme)
    stored = constants(parse(content, name).main)
    wanted = kernels(model)
    assert len(stored) >= len(wanted) > 2
    for layer, (integers, steps) in wanted.items():
        match = [scales for found, scales in stored if np.array_equal(found, integers)]
        assert len(match) == 1, layer
        assert len(match[0]) in (1, len(steps))
        wide = np.broadcast_to(match[0], steps.shape)
        np.testing.assert_allclose(wide, steps, rtol=2e-6, err_msg=layer)


@pytest.mark.parametrize(("name", "scheme"), CASES)
def test_activations_have_the_learned_steps(name, scheme):
    model, content, notes = made(name, scheme)
    main = parse(content, name).main
    kind = "int16" if scheme == "int16x8" else "int8"
    computed = {i for o in main.operators for i in o.outputs} | set(main.inputs)
    free = [
        i
        for o in main.operators
        for i in o.outputs
        if o.name not in ("SOFTMAX", "LOGISTIC") and main.tensors[i].dtype == kind
    ] + list(main.inputs)
    assert {main.tensors[i].dtype for i in computed} == {kind}
    found = {float(main.tensors[i].quantisation.scales[0]) for i in free}
    learned = [layer for layer in model.layers if type(layer).__name__ == "FakeQuantRange"]
    steps = [np.diff([float(e) for e in r.ends()])[0] / STEPS[r.bits] for r in learned]
    for layer, step in zip(learned, steps, strict=True):
        assert np.isclose(sorted(found), step, rtol=2e-6).any(), layer.name
    for scale in found:
        assert np.isclose(steps, scale, rtol=2e-6).any()
    assert notes == ()


@pytest.mark.parametrize(("name", "scheme"), CASES)
def test_the_file_answers_as_the_fake_quantised_model(name, scheme):
    """Integers round each accumulator once more than floats do: a tie may fall to the other side,
    which is one step, and a later layer may see it: two. int16 softmax interpolates a table, and
    its steps are 256 times finer. A sigmoid inside (``joined``) writes steps of 1/256, which no
    fake-quant node models, because the operator's range is fixed.
    """
    most = 5.01 if name == "joined" else 4.01 if scheme == "int16x8" else 2.01
    model, content, _ = made(name, scheme)
    given = Samples(as_model(model), 12, seed=1).x
    main = parse(content, name).main
    wanted = model(given[0] if len(given) == 1 else given, training=False)
    wanted = wanted if isinstance(wanted, list) else [wanted]
    lite = interpreter(content)
    specs = [tensor_spec(main.tensors[i]) for i in main.outputs]
    for row in range(12):
        for detail, index, x in zip(lite.get_input_details(), main.inputs, given, strict=True):
            spec = tensor_spec(main.tensors[index])
            lite.set_tensor(detail["index"], quantise(x[row : row + 1], spec))
        lite.invoke()
        for detail, spec, y in zip(lite.get_output_details(), specs, wanted, strict=True):
            answer = dequantise(lite.get_tensor(detail["index"]), spec)
            off = np.abs(answer - np.asarray(y)[row : row + 1]).max() / spec.scale
            assert off <= most


def interpreter(content: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    lite = Interpreter(model_content=content, num_threads=1)
    lite.allocate_tensors()
    return lite


@pytest.mark.parametrize("name", ["conv1d", "sequential", "residual", "depthwise"])
def test_no_operator_is_left_of_the_nodes(name):
    """Not a reshape either: a tensor that nothing needs takes bytes of the arena."""
    given = as_model(graph(name))
    plain = export(given, Recipe(id="r", scheme="int8"), LITERT, Samples(given, 16)).content
    wanted, found = (parse(content, "x") for content in (plain, made(name, "int8")[1]))
    assert [o.name for o in found.main.operators] == [o.name for o in wanted.main.operators]
    assert plan(found).arena_bytes <= plan(wanted).arena_bytes


def test_four_bits_are_stored_in_four_bits():
    main = parse(made("sequential", "int4")[1], "x").main
    kinds = [main.tensors[o.inputs[1]].dtype for o in main.operators if o.name in HEAVY]
    assert set(kinds) == {"int4"}


def test_floats_in_and_out():
    model = made("sequential", "int8")[0]
    recipe = Recipe(id="r", scheme="int8", io="float32")
    main = parse(export(as_model(model), recipe, LITERT, None).content, "x").main
    assert [main.tensors[i].dtype for i in (*main.inputs, *main.outputs)] == ["float32"] * 2


def test_a_float_export_has_no_fake_quant_nodes_and_says_so():
    model = made("sequential", "int8")[0]
    done = export(as_model(model), Recipe(id="r", scheme="float32"), LITERT, None)
    names = {operator.name for operator in parse(done.content, "x").main.operators}
    assert not names & {"QUANTIZE", "DEQUANTIZE", "FAKE_QUANT"}
    assert any("fake-quant nodes were taken out" in note for note in done.notes)


def test_what_no_node_covers_needs_data_and_gets_it():
    import keras

    image = keras.Input((6, 4), name="rows")
    x = keras.layers.LayerNormalization(name="norm")(keras.layers.Dense(8, name="first")(image))
    model = learn(keras.Model(image, keras.layers.Dense(3, name="head")(x)), "int8")
    given, recipe = as_model(model), Recipe(id="r", scheme="int8")
    with pytest.raises(DataError, match="no fake-quant node covers"):
        export(given, recipe, LITERT, None)
    done = export(given, recipe, LITERT, Samples(given, 16))
    assert any("no fake-quant node covers it" in note for note in done.notes)
    found = parse(done.content, "x").main
    learned = np.diff([float(e) for e in model.get_layer("first_range").ends()])[0] / 255
    scales = [t.quantisation.scales for t in found.tensors if t.quantisation is not None]
    assert any(np.isclose(each, learned, rtol=2e-6).all() for each in scales)


def masked(model: Any, share: float) -> tuple[Mask, ...]:
    rng, found = np.random.default_rng(3), []
    for name in ("conv_b", "hidden"):
        kernel = model.get_layer(name).kernel
        keep = rng.random(kernel.shape) >= share
        kernel.assign(kernel.numpy() * keep)
        found.append(Mask(layer=name, keep=keep))
    return tuple(found)


@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_pruned_zeros_are_zeros_in_the_file(scheme):
    model = graph("sequential")
    masks = masked(model, 0.75)
    learned = learn(model, scheme, masks)
    content = export(as_model(learned), Recipe(id="r", scheme=scheme), LITERT, None).content
    stored = {len(rows): rows for rows, _ in constants(parse(content, "x").main)}
    for mask in masks:
        keep = np.moveaxis(mask.keep, -1, 0).reshape(mask.keep.shape[-1], -1)
        assert (stored[len(keep)][~keep] == 0).all()
        assert (stored[len(keep)] != 0).mean() > 0.2


@pytest.mark.parametrize("shared", [False, True])
def test_palettes_stay_palettes(shared):
    """16 values a tensor: at most 16 integers a channel, and with one step a tensor, in all."""
    model = graph("sequential")
    kernel = model.get_layer("conv_b").kernel
    palette = np.linspace(-0.3, 0.35, 16).astype(np.float32)
    index = np.random.default_rng(5).integers(0, 16, kernel.shape).astype(np.int32)
    kernel.assign(palette[index])
    learned = learn(
        model,
        "int8",
        (Palette(layer="conv_b", index=index),),
        per_tensor=("conv_b",) if shared else False,
    )
    content = export(as_model(learned), Recipe(id="r", scheme="int8"), LITERT, None).content
    rows = next(r for r, _ in constants(parse(content, "x").main) if len(r) == 12)
    assert max(len(np.unique(row)) for row in rows) <= 16
    assert len(np.unique(rows)) == 16 or not shared
