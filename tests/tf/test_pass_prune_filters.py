"""Filter pruning on real models: budgets, what goes first, repair, constraints, the record."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from edgepack.errors import DataError
from edgepack.export.convert import to_float
from edgepack.graph.cost import cost
from edgepack.graph.parse import parse
from edgepack.graph.plan import plan
from edgepack.passes.candidate import Candidate, Context, Costs
from edgepack.passes.constraints import Mask
from edgepack.passes.layers import values
from edgepack.passes.network import read
from edgepack.passes.prices import prices
from edgepack.passes.prune_filters import Options, apply
from edgepack.passes.ties import trace
from edgepack.spec.steps import Distillation, Training
from tests.graphs import GRAPHS, graph
from tests.sets import data_of, digits
from tests.tf.export_models import as_model

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]


def costing(model):
    """What the workflow would inject."""
    found = parse(to_float(as_model(model)), "model")
    spent = cost(found)
    return Costs(cost=spent, size_bytes=spent.weight_bytes, arena_bytes=plan(found).arena_bytes)


def context(model, **others) -> Context:
    others = {"select": lambda layer: True, **others}
    return Context(teacher=model, scheme="int8", **others)


def answers(model, x):
    import keras

    return [np.asarray(y) for y in keras.tree.flatten(model(x, training=False))]


def noise(model, rows=8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, *model.inputs[0].shape[1:])).astype(np.float32)


def sizes(record) -> dict[str, tuple[int, int]]:
    """Layer → (before, after) of what the record tells of filters and neurons."""
    told = (re.fullmatch(r"(\w+): (\d+) → (\d+) (filters|neurons)", w) for w in record.changed)
    return {m[1]: (int(m[2]), int(m[3])) for m in told if m}


@pytest.mark.parametrize("name", [n for n in GRAPHS if n != "recurrent"])
def test_macs_by_channels_are_those_of_the_export(name):
    model = graph(name)
    units = trace(read(model), lambda layer: True)
    full = np.array([len(group) for group in units.groups])
    assert prices(units, "macs").total(full) == costing(model).cost.macs


@pytest.mark.parametrize(
    ("of", "keep"), [("macs", 0.4), ("params", 0.5), ("bytes", 0.6), ("arena", 0.7)]
)
def test_a_budget_is_met_by_the_export(of, keep):
    model = graph("depthwise" if of == "arena" else "residual")
    made = apply(
        Candidate(model=model),
        Options(keep=keep, of=of, criterion="l2", multiple=1),
        context(model, cost=costing),
    )
    before, after = costing(model), costing(made.model)
    spent = {
        "macs": after.cost.macs / before.cost.macs,
        "params": after.cost.params / before.cost.params,
        "bytes": after.size_bytes / before.size_bytes,
        "arena": after.arena_bytes / before.arena_bytes,
    }
    assert spent[of] <= keep
    assert spent[of] > keep - 0.15
    for layer, (_, filters) in sizes(made.steps[0]).items():
        assert values(made.model.get_layer(layer)).shape[-1] == filters


def dead(model, layers, part=2):
    """The model with one of ``part`` filters of those layers dead: they give nothing."""
    for layer in layers:
        for name in (layer, layer.replace("conv", "norm")):
            for weight in model.get_layer(name).weights if name in names(model) else ():
                if weight.name != "moving_variance":
                    kept = np.array(weight.numpy())
                    kept[..., ::part] = 0
                    weight.assign(kept)
    return model


def names(model):
    return {layer.name for layer in model.layers}


@pytest.mark.parametrize(
    ("criterion", "labels"),
    [(c, False) for c in ("l1", "l2", "bn-scale", "activation", "taylor")] + [("taylor", True)],
)
def test_dead_filters_go_first_and_the_model_computes_the_same(criterion, labels, tmp_path):
    model = dead(graph("sequential"), ["conv_a", "conv_b", "hidden"])
    x = noise(model, 32)
    y = np.arange(32) % 4 if labels else None
    data = data_of(tmp_path, image=x, y=y)
    options = Options(keep=0.45, criterion=criterion, repair="none", multiple=1)
    made = apply(Candidate(model=model), options, context(model, train=data))
    assert len(sizes(made.steps[0])) == 3
    for layer, (before, after) in sizes(made.steps[0]).items():
        assert after >= before / 2, layer
    np.testing.assert_allclose(answers(model, x)[0], answers(made.model, x)[0], atol=1e-5)


def test_random_is_seeded():
    model = graph("sequential")
    run = partial(apply, Candidate(model=model), Options(criterion="random"))
    one, same, other = (run(context(model, seed=seed)) for seed in (1, 1, 2))
    kernels = [values(made.model.get_layer("conv_a")) for made in (one, same, other)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert kernels[0].shape != kernels[2].shape or not np.array_equal(kernels[0], kernels[2])


@pytest.mark.parametrize("first", ["conv_a", "conv_b"])
def test_what_others_know_is_told_by_them(first, tmp_path):
    """Filters that repeat others can go without a loss, if what stays speaks for them."""
    import keras

    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(8, 3, activation="relu", name="conv_a")(image)
    x = keras.layers.Conv2D(8, 3, use_bias=False, name="conv_b")(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(name="norm_b")(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(3, name="label")(x))
    for weight in model.weights:
        weight.assign(np.random.default_rng(len(weight.name)).normal(0.1, 0.4, weight.shape) ** 2)
    repeated = model.get_layer(first), model.get_layer("norm_b")
    for layer in repeated if first == "conv_b" else repeated[:1]:
        for weight in layer.weights:
            kept = np.array(weight.numpy())
            kept[..., 4:] = kept[..., :4]
            weight.assign(kept)
    x = noise(model, 64)
    data = data_of(tmp_path, image=x)
    skip = {"conv_a", "conv_b"} - {first}
    given = context(model, calibration=data, select=lambda layer: layer.name not in skip)
    lost = {}
    for repair in ("none", "regress"):
        options = Options(keep=0.55, criterion="l2", repair=repair, max_cut=0.5)
        made = apply(Candidate(model=model), options, given)
        assert sizes(made.steps[0]) == {first: (8, 4)}
        old, new = answers(model, x)[0], answers(made.model, x)[0]
        lost[repair] = np.abs(old - new).max() / old.std()
    if kept_one_of_each(made.model.get_layer(first)):
        assert lost["regress"] < 1e-2 < lost["none"]


def kept_one_of_each(layer) -> bool:
    kernel = values(layer).reshape(-1, 4).T
    return len(np.unique(kernel.round(6), axis=0)) == 4


@pytest.mark.parametrize("norm", [False, True])
def test_a_constant_channel_goes_into_the_bias_or_the_norm_that_follows(norm, tmp_path):
    import keras

    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(8, 3, activation="hard_sigmoid", name="conv")(image)
    x = keras.layers.Conv2D(6, 3, use_bias=not norm, name="reader")(x)
    if norm:
        x = keras.layers.BatchNormalization(name="norm")(x)
    model = keras.Model(image, keras.layers.ReLU()(x))
    kernel = values(model.get_layer("conv"))
    kernel[..., :4] = 0
    model.get_layer("conv").set_weights([kernel, np.full(8, 0.7, np.float32)])
    x = noise(model, 16)
    given = context(model, calibration=data_of(tmp_path, image=x))
    made = {
        repair: apply(
            Candidate(model=model),
            Options(keep=0.55, criterion="l2", repair=repair, max_cut=0.5),
            given,
        ).model
        for repair in ("none", "mean")
    }
    old = answers(model, x)[0]
    np.testing.assert_allclose(old, answers(made["mean"], x)[0], rtol=1e-3, atol=1e-4)
    assert np.abs(old - answers(made["none"], x)[0]).max() > 0.05


def test_what_cannot_be_cut_is_told_with_its_reason():
    model = graph("recurrent")
    made = apply(Candidate(model=model), Options(criterion="l2"), context(model))
    why = {note.layer: note.why for note in made.steps[0].skipped}
    assert made.steps[0].changed == ()
    assert "lstm (LSTM)" in why["conv"]
    assert "not a kind of layer" in why["lstm"]
    assert "output 'label'" in why["label"]


def test_layers_that_are_not_selected_keep_their_filters():
    model = graph("sequential")
    given = context(model, select=lambda layer: layer.name != "conv_a")
    made = apply(Candidate(model=model), Options(criterion="l2", keep=0.6), given)
    assert set(sizes(made.steps[0])) == {"conv_b", "hidden"}
    assert ("conv_a", "the step's selection leaves it out") in [
        (note.layer, note.why) for note in made.steps[0].skipped
    ]


def test_a_budget_out_of_reach_is_told():
    model = graph("sequential")
    made = apply(
        Candidate(model=model),
        Options(criterion="l2", keep=0.05, max_cut=0.5, multiple=4),
        context(model),
    )
    assert sizes(made.steps[0]) == {"conv_a": (8, 4), "conv_b": (12, 8), "hidden": (16, 8)}
    assert "more than asked" in made.steps[0].skipped[-2].why + made.steps[0].skipped[-1].why


def test_masks_of_earlier_passes_are_cut_and_hold(tmp_path):
    model = graph("residual")
    rng = np.random.default_rng(0)
    masks = [
        Mask(layer=name, keep=rng.random(values(model.get_layer(name)).shape) < 0.5)
        for name in ("stem", "one_a", "two_b")
    ]
    data = data_of(tmp_path, image=noise(model, 32), y=np.arange(32) % 4)
    given = context(
        model,
        train=data,
        training=Training(epochs=2, batch_size=16),
        distill=Distillation(labels=0.0),
    )
    made = apply(
        Candidate(model=model, constraints=tuple(masks)), Options(keep=0.4, rounds=2), given
    )
    assert len(made.constraints) == 3
    for constraint in made.constraints:
        kept = values(made.model.get_layer(constraint.layer))
        assert kept.shape == constraint.keep.shape
        assert not kept[~constraint.keep].any()
        assert kept[constraint.keep].any()


def test_rounds_recover_what_one_cut_loses_and_the_same_seed_gives_the_same(tmp_path):
    import keras

    data = digits(tmp_path, 400)
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(12, 3, activation="relu", name="conv_a")(image)
    x = keras.layers.Conv2D(12, 3, activation="relu", name="conv_b")(x)
    x = keras.layers.Flatten()(x)
    model = keras.Model(image, keras.layers.Dense(10, activation="softmax", name="label")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    (batch,) = data.batches(400)
    model.fit(batch.x[0], batch.y, epochs=12, verbose=0)
    given = context(
        model,
        train=data,
        training=Training(epochs=4, batch_size=32),
        distill=Distillation(),
        cost=costing,
    )
    options = Options(keep=0.4, rounds=2, criterion="taylor", samples=128)
    made = [apply(Candidate(model=model), options, given) for _ in range(2)]
    cut = apply(Candidate(model=model), options, replace(given, training=None, distill=None))

    def right(candidate) -> float:
        return (answers(candidate.model, batch.x[0])[0].argmax(1) == batch.y).mean()

    assert right(made[0]) >= max(0.9, right(cut))
    assert costing(made[0].model).cost.macs <= 0.4 * costing(model).cost.macs
    for a, b in zip(made[0].model.weights, made[1].model.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_criterion_that_looks_at_data_says_so_where_there_is_none():
    model = graph("sequential")
    with pytest.raises(DataError, match="looks at data") as refused:
        apply(Candidate(model=model), Options(), context(model))
    assert "l2" in refused.value.hint
