"""Quantisation-aware training: where it rounds, what it learns, what it leaves as it was."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import DataError, ModelError
from edgepack.passes import qat, saved
from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.constraints import Mask, Palette
from edgepack.passes.fake_quant import fixed, largest, learnt
from edgepack.passes.fake_quant_layers import FakeQuantConv2D
from edgepack.passes.fake_quant_model import least_error_clip
from edgepack.passes.fake_quant_range import FakeQuantRange
from edgepack.passes.network import Value, read
from edgepack.passes.placement import ranged
from edgepack.spec.steps import Training
from tests.graphs import graph
from tests.sets import digits
from tests.tf.export_models import Samples, as_model

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]
L = keras.layers


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return digits(tmp_path_factory.mktemp("digits"), 256)


def drawing() -> Any:
    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 1), name="image")
    x = L.Conv2D(6, 3, use_bias=False, name="conv")(image)
    x = L.ReLU(name="relu")(L.BatchNormalization(name="norm")(x))
    x = L.Conv2D(8, 3, activation="relu", name="second")(x)
    return keras.Model(image, L.Dense(10, activation="softmax", name="label")(L.Flatten()(x)))


def step(model, data, *, constraints=(), scheme="int8", select=None, train=None, **options):
    context = Context(
        teacher=model,
        scheme=scheme,
        select=select or (lambda layer: True),
        seed=4,
        calibration=data,
        train=data,
        training=None if train is None else Training(**({"epochs": 2, "batch_size": 32} | train)),
    )
    given = Candidate(model=model, constraints=constraints)
    return qat.apply(given, qat.Options(**options), context)


def untrained(name: str, **more: Any) -> Any:
    model = graph(name)
    return step(model, Samples(as_model(model), 16), **more)


def places(name: str) -> set[str]:
    network = read(graph(name))
    return {network.producer(value).name for value in ranged(network)}


def test_a_range_is_where_an_integer_operator_writes():
    assert places("sequential") == {"image", "relu_a", "conv_b", "hidden"}
    assert places("residual") == {
        *("image", "stem_relu", "one_relu", "one_b", "one_out", "two_relu", "two_side"),
        *("two_b", "two_out", "average"),
    }


def test_branches_round_where_they_join():
    entry = keras.Input((8, 8, 2), name="x")
    x = L.Conv2D(4, 3, name="a")(entry)
    y = L.MaxPooling2D(2, 1, "same", name="pool")(L.Conv2D(4, 3, padding="same", name="b")(x))
    z = L.Conv2D(4, 3, padding="same", name="c")(x)
    network = read(keras.Model(entry, L.Concatenate(name="join")([y, z])))
    assert {network.producer(v).name for v in ranged(network)} == {"x", "a", "join"}


def test_fixed_ranges_and_moves_get_none_and_other_activations_both_sides():
    x = keras.Input((8, 8, 2), name="x")
    y = L.Conv2D(3, 3, name="a")(x)
    y = L.Activation("sigmoid", name="gate")(y)
    y = L.Conv2D(3, 3, activation="swish", name="b")(L.ZeroPadding2D(name="pad")(y))
    network = read(keras.Model(x, L.AveragePooling2D(2, name="pool")(y)))
    assert ranged(network) == {Value(0), Value(1), Value(4)}
    model = keras.Model(x, y)
    made = step(model, Samples(as_model(model), 8)).model
    assert [layer.name for layer in made.layers if isinstance(layer, FakeQuantRange)] == [
        *("x_range", "a_range", "b_range", "b_range_1"),
    ]
    assert made.get_layer("b").activation.__name__ == "linear"


def test_a_shared_layer_has_one_kernel_and_a_range_for_each_use():
    made = untrained("shared")
    assert sum(layer.name == "again" for layer in made.model.layers) == 1
    assert sum(layer.name.startswith("again_range") for layer in made.model.layers) == 4


def test_averages_are_rounded_in_their_inputs_range():
    x = keras.Input((4, 4, 2), name="x")
    y = L.Conv2D(3, 1, activation="relu", name="a")(x)
    y = L.AveragePooling2D(4, name="pool")(L.MaxPooling2D(1, name="max")(y))
    model = keras.Model(x, y)
    made = step(model, Samples(as_model(model), 16), ranges="moving-average").model
    layer = made.get_layer("a_range")
    given = np.random.default_rng(0).normal(size=(3, 4, 4, 2)).astype(np.float32)
    steps = made(given).numpy() / (float(layer.ends()[1]) / 255)
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
    before = float(layer.high.numpy())
    layer(tf.fill([2, 2], 50.0), training=True, follow=False)
    assert float(layer.high.numpy()) == before
    layer(tf.fill([2, 2], 50.0), training=True)
    assert float(layer.high.numpy()) > before


@pytest.mark.parametrize("scheme", ["int8", "int4", "int16x8"])
def test_kernels_are_left_on_their_grid(scheme):
    made = untrained("depthwise", scheme=scheme).model
    for layer in made.layers:
        if hasattr(layer, "weight_bits"):
            four = scheme == "int4" and layer.edgepack_kind != "DepthwiseConv2D"
            assert layer.weight_bits == (4 if four else 8)
            np.testing.assert_allclose(layer.rounded(), layer.kernel.value, rtol=1e-6)
            whole = layer.kernel.numpy().reshape(-1, np.size(layer.top()))
            steps = whole / np.asarray(layer.top()) * (2 ** (layer.weight_bits - 1) - 1)
            np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)


def test_sixteen_bits_are_symmetric():
    for layer in untrained("sequential", scheme="int16x8").model.layers:
        if isinstance(layer, FakeQuantRange):
            low, high = layer.ends()
            assert float(low) == -float(high) < 0


def test_training_moves_learned_ranges(data):
    model = drawing()
    first = step(model, data).model
    made = step(model, data, train={"learning_rate": 1e-2}).model
    for name in ("image_range", "relu_range", "second_range", "label_range"):
        before, after = (np.array(m.get_layer(name).ends()) for m in (first, made))
        assert not np.allclose(before, after, rtol=1e-4), name
        assert np.abs(np.log2(after[1] / before[1])) < 1
    for name in ("conv", "second", "label"):
        assert (made.get_layer(name).kernel_stretch.numpy() != 0).all()
    assert float(made.get_layer("relu_range").ends()[0]) == 0.0


def test_moving_averages_follow_the_batches(data):
    model = drawing()
    shared = {"ranges": "moving-average", "train": {"learning_rate": 1e-2}}
    first = step(model, data).model.get_layer("second_range").ends()
    made = step(model, data, freeze_statistics=1.0, **shared).model.get_layer("second_range")
    assert not np.allclose(first, made.ends(), rtol=1e-3)
    assert made.stretch is None
    still = step(model, data, freeze_statistics=0.0, **shared).model.get_layer("second_range")
    np.testing.assert_array_equal(first, still.ends())


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_statistics_freeze(data, share):
    model = drawing()
    made = step(model, data, freeze_statistics=share, train={"epochs": 1}).model
    moved = made.get_layer("norm").moving_mean.numpy() - model.get_layer("norm").moving_mean.numpy()
    assert (np.abs(moved) > 0).all() == (share > 0)
    if share == 0.5:
        on = step(model, data, freeze_statistics=1.0, train={"epochs": 1}).model
        assert not np.allclose(on.get_layer("norm").moving_mean, made.get_layer("norm").moving_mean)


def test_the_schedule_switches_after_its_delay(data):
    made = untrained("sequential")
    ranges = {r.name: r for r in made.model.layers if isinstance(r, FakeQuantRange)}

    class Made:
        norms: tuple[Any, ...] = ()

    Made.ranges = ranges
    schedule = qat.Schedule(Made, qat.Options(delay=0.3, freeze_statistics=0.7))
    seen = []
    for done in range(10):
        schedule.before(done, 10)
        layer = ranges["relu_a_range"]
        seen.append((float(layer.active.numpy()), float(layer.moving.numpy())))
    assert seen == [(0, 1)] * 3 + [(1, 1)] * 4 + [(1, 0)] * 3


def test_before_the_delay_activations_pass_as_they_are():
    layer = FakeQuantRange(learned=True)
    x = tf.constant(np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32))
    layer(x)
    layer.set_range(-0.5, 0.5)
    layer.active.assign(0.0)
    np.testing.assert_array_equal(layer(x, training=True), x)
    assert np.abs(layer(x, training=False)).max() <= 0.51
    layer.active.assign(1.0)
    np.testing.assert_array_equal(layer(x, training=True), layer(x, training=False))


def test_a_delayed_training_still_ends_rounded(data):
    made = step(drawing(), data, delay=1.0, train={"epochs": 1}).model
    assert float(made.get_layer("relu_range").active.numpy()) == 1.0


def test_training_helps_four_bits(data):
    model = drawing()
    x = np.concatenate([batch.x[0] for batch in data.batches()])
    y = data.labels()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=12, batch_size=16, verbose=0)
    given = {"scheme": "int4", "train": None}

    def loss(candidate):
        found = candidate.model(x, training=False).numpy()[np.arange(len(y)), y]
        return float(-np.log(np.maximum(found, 1e-7)).mean())

    before = loss(step(model, data, **given))
    after = loss(step(model, data, **(given | {"train": {"epochs": 4, "learning_rate": 1e-3}})))
    assert after < 0.9 * before


def test_zeros_and_palettes_outlive_training(data):
    model = drawing()
    rng = np.random.default_rng(1)
    keep = rng.random(model.get_layer("second").kernel.shape) > 0.8
    index = rng.integers(0, 4, model.get_layer("label").kernel.shape).astype(np.int32)
    model.get_layer("second").kernel.assign(model.get_layer("second").kernel.numpy() * keep)
    kept = (Mask(layer="second", keep=keep), Palette(layer="label", index=index))
    made = step(model, data, constraints=kept, train={"learning_rate": 1e-2}, per_tensor=True)
    second, label = (made.model.get_layer(name) for name in ("second", "label"))
    assert (second.kernel.numpy()[~keep] == 0).all()
    assert (second.kernel.numpy()[keep] != 0).mean() > 0.8
    assert len(np.unique(label.kernel.numpy())) <= 4
    assert not label.learned
    assert label.top().shape == ()
    assert not np.allclose(second.kernel, model.get_layer("second").kernel)


def test_the_same_seed_gives_the_same_weights(data):
    one, two = (step(drawing(), data, train={"epochs": 1}).model.get_weights() for _ in range(2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def test_it_can_be_saved_and_loaded(data, tmp_path):
    made = step(drawing(), data, scheme="int4", train={"epochs": 1}).model
    made.save(tmp_path / "a.keras")
    again = keras.saving.load_model(tmp_path / "a.keras")
    x = next(data.batches(8)).x[0]
    np.testing.assert_array_equal(made(x), again(x))
    assert [v.path for v in made.weights] == [v.path for v in again.weights]


def test_another_process_goes_on_from_it(data, tmp_path):
    """A resumed recipe loads a finished step before any pass has been imported."""
    made = step(drawing(), data)
    for name, content in saved.content(made).items():
        (tmp_path / name).write_bytes(content)
    code = (
        "import pathlib, sys\nfrom edgepack.passes import saved\n"
        "found = saved.load(pathlib.Path(sys.argv[1]), allow_code=None, allow_lambda=False)\n"
        "print(len(found.model.layers))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == str(len(made.model.layers)), done.stderr


def test_what_is_left_out_is_told():
    made = untrained("recurrent", select=lambda layer: layer.name != "conv")
    why = {note.layer: note.why for note in made.steps[0].skipped}
    assert set(why) == {"lstm", "conv"}
    assert "LSTM" in why["lstm"]
    assert "not among" in why["conv"]
    assert type(made.model.get_layer("conv")) is L.Conv1D
    told = " ".join(made.steps[0].changed)
    assert "label: kernel in 8 bits" in told
    assert "signal_range" in told


def test_integer_inputs_are_left_alone():
    words = keras.Input((5,), dtype="int32", name="words")
    x = L.Dense(4, name="mean")(L.GlobalAveragePooling1D()(L.Embedding(9, 6, name="table")(words)))
    model = keras.Model(words, x)
    made = step(model, Samples(as_model(model), 8))
    assert "words_range" not in {layer.name for layer in made.model.layers}
    assert [note.layer for note in made.steps[0].skipped] == ["table"]


def test_no_data_and_a_second_step_are_refused(data):
    model = drawing()
    with pytest.raises(DataError, match="first ranges"):
        step(model, None)
    with pytest.raises(ModelError, match="already"):
        step(step(model, data).model, data)


@given(
    st.integers(0, 2**31),
    st.floats(-3, -0.1),
    st.floats(0.1, 3),
    st.sampled_from([2, 4, 8]),
)
def test_gradients_of_learned_ranges_are_those_of_lsq(seed, low, high, bits):
    """Inside (y − x)/range for the upper end and its negative for the lower; outside 1 and 0."""
    rng = np.random.default_rng(seed)
    x = tf.constant(rng.normal(0, 2, 64).astype(np.float32))
    above = tf.constant(rng.normal(size=64).astype(np.float32))
    ends = [tf.constant(low, tf.float32), tf.constant(high, tf.float32)]
    with tf.GradientTape() as tape:
        tape.watch([x, *ends])
        y = learnt(x, *ends, bits)
        total = tf.reduce_sum(above * y)
    np.testing.assert_array_equal(y, fixed(x, *ends, bits))
    found = [np.asarray(g) for g in tape.gradient(total, [x, *ends])]
    value, inside = x.numpy(), (x.numpy() >= low) & (x.numpy() <= high)
    np.testing.assert_allclose(found[0], np.where(inside, above, 0))
    error = np.where(inside, (y.numpy() - value) / (high - low), 0)
    slow = 1 / np.sqrt(64 * (2**bits - 1))
    down = slow * (above * (np.where(value < low, 1, 0) - error)).numpy().sum()
    up = slow * (above * (np.where(value > high, 1, 0) + error)).numpy().sum()
    np.testing.assert_allclose(found[1:], [down, up], rtol=1e-3, atol=1e-5)


@given(st.integers(0, 2**31), st.booleans())
def test_a_drawn_in_range_is_never_worse(seed, per_tensor):
    flat = np.random.default_rng(seed).normal(size=(20, 3)).astype(np.float32)
    clip = least_error_clip(flat, 4, per_tensor)
    assert clip.shape == (() if per_tensor else (3,))
    top = np.asarray(largest(tf.constant(flat), per_tensor=per_tensor))

    def error(high):
        high = tf.constant(high, tf.float32)
        return ((fixed(tf.constant(flat), -high, high, 4, narrow=True) - flat) ** 2).numpy().sum()

    assert error(top * clip) <= error(top) * (1 + 1e-5)


def test_an_empty_channel_has_a_step_that_its_bias_can_use():
    layer = FakeQuantConv2D(3, 1)
    layer(np.zeros((1, 2, 2, 2), np.float32))
    kernel = layer.kernel.numpy()
    kernel[..., 1] = 0
    layer.kernel.assign(kernel)
    assert np.asarray(layer.top()).min() > 0.1 * np.abs(kernel).max(initial=0)
    assert (np.asarray(layer.rounded())[..., 1] == 0).all()
