"""Learning from a teacher: softened outputs, inner values, and that it helps."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.errors import DataError, ModelError, SpecError
from edgepack.model.data import Data
from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.constraints import Mask
from edgepack.passes.ends import ends
from edgepack.passes.fit import fit
from edgepack.passes.hidden import Hint, averaging, pooled
from edgepack.passes.network import read, rebuild
from edgepack.passes.objective import objective
from edgepack.passes.soften import logits, soft_loss
from edgepack.passes.table import apply
from edgepack.passes.trunk import Pair, cuts, pairs
from edgepack.spec.steps import Distillation, Step, Training
from tests.sets import data_of, digits

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import keras
    import tensorflow as tf

L = keras.layers
RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 6)).astype(np.float32)


def context(data, teacher, distill: Distillation | None, **training) -> Context:
    return Context(
        teacher=teacher,
        scheme="int8",
        select=lambda layer: True,
        seed=3,
        train=data,
        distill=distill,
        training=Training(**({"epochs": 1, "learning_rate": 5e-3, "batch_size": 16} | training)),
    )


def image_model(width=8, blocks=1, seed=1, end="softmax"):
    keras.utils.set_random_seed(seed)
    x = image = keras.Input((8, 8, 1))
    for stage, filters in enumerate((width, 2 * width)):
        x = L.Conv2D(filters, 3, padding="same", activation="relu", name=f"s{stage}_in")(x)
        for block in range(blocks):
            name = f"s{stage}_b{block}"
            y = L.Conv2D(filters, 3, padding="same", activation="relu", name=name)(x)
            x = L.Add(name=f"{name}_add")([x, y])
        if stage == 0:
            x = L.MaxPooling2D(name="halve")(x)
    x = L.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(image, L.Dense(10, activation=end, name="digit")(x))


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.floats(1, 8), st.integers(2, 6))
def test_softened_loss_is_the_divergence_and_0_where_both_agree(seed, temperature, classes):
    rng = np.random.default_rng(seed)
    taught, learned = rng.normal(size=(2, 5, classes)) * 3

    def soft(z):
        e = np.exp(z / temperature - (z / temperature).max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    p, q = soft(taught), soft(learned)
    wanted = temperature**2 * (p * np.log(p / q)).sum(-1).mean()

    def given_(a, b, end="softmax"):
        return float(soft_loss(tf.constant(a), tf.constant(b), end, temperature, classes=True))

    assert given_(taught, learned) == pytest.approx(wanted, rel=1e-4, abs=1e-9)
    assert given_(taught, learned, "linear") == pytest.approx(wanted, rel=1e-4, abs=1e-9)
    assert given_(taught, taught) == pytest.approx(0, abs=1e-9)
    assert given_(taught, taught, "sigmoid") == pytest.approx(0, abs=1e-9)
    assert given_(taught, learned, "sigmoid") > 0


def test_plain_values_are_taught_by_their_squared_error():
    a, b = tf.constant([[1.0, 2.0]]), tf.constant([[2.0, 4.0]])
    assert float(soft_loss(a, b, "linear", 4.0, classes=False)) == pytest.approx(2.5)


@pytest.mark.parametrize("end", ["softmax", "sigmoid"])
def test_logits_come_back_from_probabilities(end):
    """Exactly in a traced model, where rounding took the tail away; nearly from values."""
    x = keras.Input((3,))
    model = keras.Model(x, L.Activation(end)(x))
    given_ = np.array([[0.0, 2.0, -60.0]], np.float32)
    traced = tf.function(lambda v: logits(model(v), end))
    np.testing.assert_array_equal(traced(given_), given_)
    near = logits(tf.constant(model(given_).numpy()), end).numpy()[0]
    assert near[1] - near[0] == pytest.approx(2, abs=1e-3)
    assert near[2] < -14


def test_an_output_is_known_by_its_last_activation():
    x = keras.Input((4,))
    wide = L.Dense(3)(x)
    found = {
        "softmax": [
            L.Dense(3, activation="softmax")(x),
            L.Softmax()(wide),
            L.Activation("softmax")(wide),
            keras.ops.softmax(wide),
            L.Reshape((3,))(L.Softmax()(L.Reshape((1, 1, 3))(wide))),
            L.Lambda(lambda v: tf.nn.softmax(v))(wide),
        ],
        "sigmoid": [L.Dense(1, activation="sigmoid")(x), keras.ops.sigmoid(wide)],
        "linear": [wide, L.ReLU()(wide), L.Dense(3, activation="tanh")(x)],
    }
    for end, outputs in found.items():
        for output in outputs:
            model = keras.Model(x, output)
            values = model(RNG.normal(size=(8, 4)))
            assert ends(model, lambda values=values: [values.numpy()]) == [end]


def test_only_what_everything_flows_through_is_on_the_trunk():
    names = " ".join(call.name for call in cuts(read(image_model(blocks=2))))
    assert names == "s0_in s0_b0_add s0_b1_add halve s1_in s1_b0_add s1_b1_add average"


def test_auto_learns_the_last_of_each_size():
    teacher, student = read(image_model(8)), read(image_model(5))
    found = pairs(teacher, student, "auto", places=False)
    assert [(p.teacher, p.student) for p in found] == [
        (name, name) for name in ("s0_b0_add", "s1_b0_add", "average")
    ]
    assert found[0].teacher_shape == (8, 8, 8)
    assert found[0].student_shape == (8, 8, 5)
    seen = pairs(teacher, student, "auto", places=True)
    assert [p.teacher for p in seen] == ["s0_b0_add", "s1_b0_add"]


def test_another_architecture_learns_by_size_and_depth():
    keras.utils.set_random_seed(0)
    x = image = keras.Input((8, 8, 1))
    x = L.Conv2D(4, 3, padding="same", name="one")(x)
    x = L.Conv2D(4, 3, strides=2, padding="same", name="two")(x)
    x = L.Conv2D(4, 2, strides=2, padding="same", name="three")(x)
    x = L.Dense(10, name="end")(L.Flatten(name="flat")(x))
    found = pairs(read(image_model()), read(keras.Model(image, x)), "s._b0_add", places=False)
    assert [(p.teacher, p.student) for p in found] == [("s0_b0_add", "one"), ("s1_b0_add", "two")]


def test_a_pattern_that_names_nothing_is_refused():
    network = read(image_model())
    with pytest.raises(SpecError, match="matches no layer of the teacher"):
        pairs(network, network, "conv.*", places=False)
    with pytest.raises(SpecError, match="no inner values"):
        pairs(network, network, "average", places=True)


@given(st.integers(1, 12), st.integers(1, 12))
def test_pooling_averages_and_keeps_a_constant(given_, wanted):
    wanted = min(given_, wanted)
    weights = averaging(given_, wanted)
    np.testing.assert_allclose(weights.sum(0), 1, rtol=1e-6)
    assert (weights.sum(1) > 0).all()
    if given_ % wanted == 0:
        values = np.arange(float(given_))
        np.testing.assert_allclose(values @ weights, values.reshape(wanted, -1).mean(1), rtol=1e-5)


def test_pooling_is_average_pooling_where_sizes_divide():
    images = RNG.normal(size=(2, 8, 4, 3)).astype(np.float32)
    wanted = tf.nn.avg_pool2d(images, (2, 2), (2, 2), "VALID")
    np.testing.assert_allclose(pooled(images, (4, 2)), wanted, atol=1e-6)


def test_a_hint_of_equal_shapes_needs_no_adapter():
    pair = Pair(teacher="a", student="a", teacher_shape=(4, 3), student_shape=(4, 3))
    hint = Hint(pair, (1,))
    values = tf.constant(RNG.normal(size=(2, 4, 3)), tf.float32)
    assert hint.variables == []
    assert float(hint.loss(values, values)) == 0
    other = Hint(replace(pair, student_shape=(8, 5)), (1,))
    assert [tuple(v.shape) for v in other.variables] == [(5, 3), (3,)]


def share_of_first(model, ctx) -> tuple[float, float]:
    """The hidden loss on the training data before and after a training."""
    made = objective(model, ctx)
    batch = next(ctx.train.batches(len(ctx.train)))

    def hidden() -> float:
        return float(made.loss(batch.x, batch.y, training=False)[1]["hidden"])

    from edgepack.model.training import train

    before = hidden()
    train(model, ctx.train, ctx.training, made, seed=1)
    return before, hidden()


@pytest.mark.parametrize(("width", "attention"), [(8, False), (5, False), (8, True), (5, True)])
def test_the_student_comes_to_hold_the_teachers_inner_values(tmp_path, width, attention):
    teacher, student = image_model(8, seed=1), image_model(width, seed=2)
    kept = [np.array(w) for w in teacher.get_weights()]
    data = digits(tmp_path, 128)
    distill = Distillation(labels=0, hidden="auto", attention=attention, hidden_weight=3)
    ctx = context(data, teacher, distill, epochs=8)
    before, after = share_of_first(student, ctx)
    assert after < 0.6 * before
    assert len(objective(student, ctx).variables) == (0 if width == 8 or attention else 6)
    for old, new in zip(kept, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def small(width, seed):
    keras.utils.set_random_seed(seed)
    x = image = keras.Input((8, 8, 1))
    for name, filters in (("a", width), ("b", 2 * width)):
        x = L.Conv2D(filters, 3, padding="same", use_bias=False, name=name)(x)
        x = L.ReLU(name=f"{name}_relu")(L.BatchNormalization(momentum=0.9)(x))
        x = L.MaxPooling2D(name="halve")(x) if name == "a" else x
    return keras.Model(image, L.Dense(10, activation="softmax", name="digit")(L.Flatten()(x)))


def right(model, data) -> float:
    batch = next(data.batches(len(data)))
    return float((model(batch.x[0]).numpy().argmax(1) == batch.y).mean())


@pytest.mark.slow
def test_a_pruned_model_recovers_better_with_its_teacher(tmp_path):
    """Forty samples: the teacher says more of each than its label does, by two points."""
    data = digits(tmp_path)
    order = np.random.default_rng(0).permutation(len(data))
    judged, many = data.select(order[:500]), data.select(order[500:])
    handfuls = [data.select(order[first : first + 40]) for first in (500, 540, 580)]
    teacher = small(8, 1)
    fit(teacher, context(many, None, None, epochs=15, learning_rate=1e-2), label="teach")
    assert right(teacher, judged) > 0.97

    def recovered(few: Data, distill: Distillation | None) -> float:
        model = rebuild(read(teacher))
        masks = []
        for name in ("a", "b", "digit"):
            kernel = np.abs(model.get_layer(name).kernel.numpy())
            masks.append(Mask(layer=name, keep=kernel >= np.quantile(kernel, 0.75)))
        ctx = context(few, teacher, distill, epochs=40, batch_size=10)
        fit(model, ctx, label="recover", constraints=masks)
        assert (model.get_layer("b").kernel.numpy()[~masks[1].keep] == 0).all()
        return right(model, judged)

    def mean(distill: Distillation | None) -> float:
        return float(np.mean([recovered(few, distill) for few in handfuls]))

    labels = mean(None)
    assert mean(Distillation(labels=0)) > labels + 0.01
    assert mean(Distillation(hidden="auto")) > labels + 0.01


def test_the_teacher_alone_teaches_without_labels(tmp_path):
    teacher, student = image_model(seed=1), image_model(seed=2)
    data = data_of(tmp_path, x=RNG.random((64, 8, 8, 1), np.float32))
    step = Step(name="distill", train=Training(epochs=1), distill=Distillation(labels=0))
    ctx = context(data, teacher, Distillation(labels=0), epochs=40, learning_rate=1e-2)
    done = apply(step, Candidate(model=student), ctx)

    def apart(model) -> float:
        x = next(data.batches(64)).x[0]
        return float(np.abs(model(x).numpy() - teacher(x).numpy()).mean())

    assert apart(done.model) < 0.5 * apart(student)
    assert done.steps[0].changed[0].startswith("all weights: 40 epochs")


def test_labels_that_are_asked_for_must_be_there(tmp_path):
    data = data_of(tmp_path, x=X)
    x = keras.Input((6,))
    model = keras.Model(x, L.Dense(4, activation="softmax")(x))
    with pytest.raises(DataError, match=r"labels = 0\.3 needs labels"):
        objective(model, context(data, model, Distillation()))
    assert objective(model, context(data, model, Distillation(labels=0)))


def test_every_output_is_taught(tmp_path):
    def model(seed):
        keras.utils.set_random_seed(seed)
        x = keras.Input((6,), name="x")
        inner = L.Dense(12, activation="relu", name="inner")(x)
        outputs = {
            "kind": L.Dense(4, activation="softmax", name="kind")(inner),
            "there": L.Dense(1, activation="sigmoid", name="there")(inner),
            "place": L.Dense(2, name="place")(inner),
        }
        return keras.Model(x, outputs)

    teacher, student = model(1), rebuild(read(model(2)))
    y = teacher(X)["kind"].numpy().argmax(1)
    data = data_of(tmp_path, x=X, y=y)
    distill = Distillation(hidden="inner", labels=0.2)
    before = {name: np.array(v) for name, v in student(X).items()}
    fit(student, context(data, teacher, distill, epochs=60, learning_rate=2e-2), label="learn")
    for name, value in teacher(X).items():
        first = np.abs(before[name] - value).mean()
        assert np.abs(student(X)[name] - value).mean() < 0.5 * first, name


def test_outputs_must_be_the_teachers(tmp_path):
    x = keras.Input((6,))
    teacher, student = (keras.Model(x, L.Dense(n)(x)) for n in (4, 3))
    with pytest.raises(ModelError, match=r"its outputs are \[\(3,\)\], the teacher's \[\(4,\)\]"):
        objective(student, context(data_of(tmp_path, x=X), teacher, Distillation(labels=0)))


def test_another_teacher_is_another_training(tmp_path):
    data, student = digits(tmp_path, 32), image_model()
    one, other = (
        objective(student, context(data, image_model(seed=seed), Distillation())).identity
        for seed in (1, 2)
    )
    assert one != other
