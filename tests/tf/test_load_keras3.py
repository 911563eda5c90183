"""Models of Keras 3 and SavedModels, made here: every shape that a user's file may have."""

from __future__ import annotations

import json
import os
import zipfile

import numpy as np
import pytest

from edgepack.errors import ModelError
from edgepack.export.failure import layer_names
from edgepack.model.convert import to_keras
from edgepack.model.load import load
from edgepack.model.predict import predict

pytestmark = pytest.mark.tf

CUSTOM = """
import keras

print("on import")

@keras.saving.register_keras_serializable(package="mine")
class Scaled(keras.layers.Layer):
    def __init__(self, factor=2.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}

class Net(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(3)

    def call(self, x):
        return self.dense(x)

custom_objects = {"Net": Net}
"""


@pytest.fixture(scope="module")
def keras():
    import keras

    return keras


@pytest.fixture
def code(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CUSTOM)
    return path


@pytest.fixture
def mine(code):
    import importlib.util

    spec = importlib.util.spec_from_file_location("mine", code)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def forget(keras):
    """Know the layers of the user's file as little as another process does."""
    known = keras.saving.get_custom_objects()
    for name in [name for name in known if name.startswith("mine>")]:
        del known[name]


def samples(model, n=5):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n, *s.shape[1:])).astype(s.dtype) for s in model.inputs]


def round_trip(keras, model, path, **flags):
    """Load what was saved, and compare with the model that was saved."""
    model.save(path)
    loaded = load(path, **flags)
    x = samples(loaded)
    expected = keras.tree.flatten(model(x if len(x) > 1 else x[0], training=False))
    found = predict(loaded, x, batch=2)
    assert len(found) == len(expected) == len(loaded.outputs)
    for answer, truth, spec in zip(found, expected, loaded.outputs, strict=True):
        np.testing.assert_allclose(answer, np.asarray(truth), atol=1e-5)
        assert answer.shape[1:] == spec.shape[1:]
    return loaded


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_nested_shared_and_several(keras, tmp_path, suffix):
    layer = keras.layers
    inner_in = keras.Input((8,))
    inner = keras.Model(inner_in, layer.Dense(8, activation="tanh")(inner_in), name="inner")
    left, right = keras.Input((8,), name="left"), keras.Input((4,), name="right")
    shared = layer.Dense(8)
    y = inner(shared(left)) + inner(shared(layer.Dense(8)(right))) * 0.5
    first, second = layer.Dense(2, name="first")(y), layer.Dense(3, name="second")(y)
    model = keras.Model([left, right], [first, second])
    loaded = round_trip(keras, model, tmp_path / f"m.{suffix}")
    assert [spec.name for spec in loaded.inputs] == ["left", "right"]
    assert [spec.name for spec in loaded.outputs] == ["first", "second"]
    assert layer_names(loaded)[inner.layers[1].name] == "Dense"


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_sequential_recurrent_and_wrapped(keras, tmp_path, suffix):
    layer = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6, 4)),
            layer.Bidirectional(layer.LSTM(3, return_sequences=True)),
            layer.TimeDistributed(layer.Dense(4)),
            layer.GRU(3),
            layer.Dense(2, name="last"),
        ]
    )
    loaded = round_trip(keras, model, tmp_path / f"m.{suffix}")
    assert loaded.outputs[0].name == "last"


def test_inputs_in_a_dictionary(keras, tmp_path):
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    model = keras.Model({"a": a, "b": b}, {"sum": a + b, "less": a - b})
    model.save(tmp_path / "m.keras")
    loaded = load(tmp_path / "m.keras")
    x = samples(loaded)
    by_name = dict(zip([s.name for s in loaded.outputs], predict(loaded, x), strict=True))
    np.testing.assert_allclose(by_name["sum"], x[0] + x[1])
    np.testing.assert_allclose(by_name["less"], x[0] - x[1])


def test_a_batch_that_was_fixed(keras, tmp_path):
    x = keras.Input(batch_shape=(1, 4))
    model = keras.Model(x, keras.layers.Dense(2)(x))
    model.save(tmp_path / "m.keras")
    loaded = load(tmp_path / "m.keras")
    assert predict(loaded, samples(loaded))[0].shape == (5, 2)


def test_sizes_left_open(keras, tmp_path):
    x = keras.Input((None, None, 3), name="image")
    model = keras.Model(x, keras.layers.Conv2D(2, 3, padding="same")(x))
    path = tmp_path / "m.keras"
    model.save(path)
    with pytest.raises(ModelError, match="'image' has no fixed shape") as error:
        load(path)
    assert "--shape image=" in error.value.hint
    loaded = load(path, shapes={"image": (1, 8, 6, 3)})
    assert loaded.outputs[0].shape == (1, 8, 6, 2)
    assert predict(loaded, samples(loaded))[0].shape == (5, 8, 6, 2)
    with pytest.raises(ModelError, match="no input 'picture'"):
        load(path, shapes={"picture": (1, 8, 6, 3)})
    with pytest.raises(ModelError, match="cannot be"):
        load(path, shapes={"image": (1, 8, 6, 4)})


def test_a_sequential_that_was_never_built(keras, tmp_path):
    with pytest.warns(UserWarning, match="not yet been built"):
        keras.Sequential([keras.layers.Dense(2)]).save(tmp_path / "m.keras")
    with pytest.raises(ModelError, match="never built: an Input layer is missing"):
        load(tmp_path / "m.keras")


def test_a_lambda_needs_its_flag(keras, tmp_path):
    x = keras.Input((4,))
    model = keras.Model(x, keras.layers.Lambda(lambda v: v * 2, output_shape=(4,))(x))
    for name in ("m.keras", "m.h5"):
        model.save(tmp_path / name)
        with pytest.raises(ModelError, match="is a Lambda") as error:
            load(tmp_path / name)
        assert "--allow-lambda" in error.value.hint
        loaded = load(tmp_path / name, allow_lambda=True)
        given = samples(loaded)
        np.testing.assert_allclose(predict(loaded, given)[0], given[0] * 2)


def test_a_lambda_deep_inside_never_runs(keras, tmp_path):
    marker = tmp_path / "ran"
    layer = keras.layers.Lambda(lambda v: v, output_shape=(4,))
    inner = keras.Sequential([keras.Input((4,)), layer])
    outer = keras.Sequential([keras.Input((3, 4)), keras.layers.TimeDistributed(inner)])
    outer.save(tmp_path / "m.keras")
    with pytest.raises(ModelError, match=r"--allow-lambda|is a Lambda"):
        load(tmp_path / "m.keras")
    assert not marker.exists()


def test_custom_layers_need_their_code(keras, tmp_path, code, mine, capfd):
    x = keras.Input((4,))
    model = keras.Model(x, mine.Scaled(3.0)(x))
    for name in ("m.keras", "m.h5"):
        model.save(tmp_path / name)
    forget(keras)
    for name in ("m.keras", "m.h5"):
        with pytest.raises(ModelError, match=r"custom|Scaled") as error:
            load(tmp_path / name)
        assert "--custom-objects" in error.value.hint
        capfd.readouterr()
        loaded = load(tmp_path / name, allow_code=code)
        assert capfd.readouterr().out == ""
        given = samples(loaded)
        np.testing.assert_allclose(predict(loaded, given)[0], given[0] * 3)
        forget(keras)


def test_code_that_is_of_no_use(keras, tmp_path, code, mine):
    x = keras.Input((4,))
    keras.Model(x, mine.Scaled(3.0)(x)).save(tmp_path / "m.keras")
    forget(keras)
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "wrong.py").write_text("custom_objects = 3")
    with pytest.raises(ModelError) as error:
        load(tmp_path / "m.keras", allow_code=tmp_path / "empty.py")
    assert "must define" in error.value.hint
    with pytest.raises(ModelError, match="is not a dict"):
        load(tmp_path / "m.keras", allow_code=tmp_path / "wrong.py")


def test_subclassed(keras, tmp_path, code, mine):
    model = mine.Net()
    x = np.ones((2, 4), np.float32)
    expected = np.asarray(model(x))
    model.save(tmp_path / "m.keras")
    loaded = load(tmp_path / "m.keras", allow_code=code)
    assert loaded.inputs[0].shape == (1, 4)
    np.testing.assert_allclose(predict(loaded, [x])[0], expected, atol=1e-6)
    model.export(tmp_path / "saved", verbose=False)
    exported = load(tmp_path / "saved")
    assert exported.kind == "saved-model"
    np.testing.assert_allclose(predict(exported, [x])[0], expected, atol=1e-6)
    with pytest.raises(
        ModelError, match=r"cannot become Keras layers|not saved from Keras|tf_keras"
    ):
        to_keras(exported)


def test_saved_models_with_open_sizes_and_without_signatures(tmp_path):
    import tensorflow as tf

    class Net(tf.Module):
        @tf.function(
            input_signature=[
                tf.TensorSpec((1, None), name="b"),
                tf.TensorSpec((1, None), name="a"),
            ]
        )
        def __call__(self, b, a):
            return {"z": a + b, "less": a - b}

    net = Net()
    tf.saved_model.save(net, str(tmp_path / "open"), signatures=net.__call__)
    with pytest.raises(ModelError, match="no fixed shape"):
        load(tmp_path / "open")
    loaded = load(tmp_path / "open", shapes={"a": (1, 3), "b": (3,)})
    assert [spec.name for spec in loaded.inputs] == ["a", "b"]
    assert [(spec.name, spec.shape) for spec in loaded.outputs] == [("less", (1, 3)), ("z", (1, 3))]
    x = samples(loaded)
    np.testing.assert_allclose(predict(loaded, x)[0], x[0] - x[1], atol=1e-6)
    with pytest.raises(ModelError, match=r"does not take these shapes|cannot be"):
        load(tmp_path / "open", shapes={"a": (1, 3), "b": (1, 4)})
    tf.saved_model.save(tf.Module(), str(tmp_path / "none"))
    with pytest.raises(ModelError, match="has no signature"):
        load(tmp_path / "none")
    two = {"one": net.__call__, "two": net.__call__}
    tf.saved_model.save(net, str(tmp_path / "two"), signatures=two)
    with pytest.raises(ModelError, match="which signature"):
        load(tmp_path / "two")


def test_saved_models_that_reach_out_or_are_damaged(tmp_path):
    import tensorflow as tf

    class Reads(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, 2))])
        def __call__(self, x):
            return {"y": x, "secret": tf.io.read_file("/etc/hostname")}

    reads = Reads()
    tf.saved_model.save(reads, str(tmp_path / "reads"), signatures=reads.__call__)
    with pytest.raises(ModelError, match=r"ReadFile\) reaches out"):
        load(tmp_path / "reads")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "saved_model.pb").write_bytes(b"\xff\xff not a graph")
    with pytest.raises(ModelError, match="damaged"):
        load(tmp_path / "bad")
    os.truncate(tmp_path / "reads" / "saved_model.pb", 200)
    with pytest.raises(ModelError, match="damaged"):
        load(tmp_path / "reads")


def test_a_damaged_archive_gives_one_line(keras, tmp_path):
    path = tmp_path / "m.keras"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(path)
    whole = path.read_bytes()
    for size in (10, len(whole) // 2, len(whole) - 20):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelError) as error:
            load(path)
        assert "\n" not in error.value.message
    with zipfile.ZipFile(path, "w") as archive:
        config = {"class_name": "Sequential", "module": "keras", "config": {"layers": [{}]}}
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", "{}")
    with pytest.raises(ModelError) as error:
        load(path)
    assert "\n" not in error.value.message


def test_weights_that_do_not_fit_give_one_line(keras, tmp_path):
    first, second = tmp_path / "a.keras", tmp_path / "b.keras"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(first)
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).save(second)
    with zipfile.ZipFile(first) as a, zipfile.ZipFile(second) as b:
        members = {name: a.read(name) for name in a.namelist()}
        members["model.weights.h5"] = b.read("model.weights.h5")
    with zipfile.ZipFile(tmp_path / "c.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ModelError) as error:
        load(tmp_path / "c.keras")
    assert "\n" not in error.value.message


def test_inputs_that_do_not_suit(keras, tmp_path):
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(tmp_path / "m.keras")
    model = load(tmp_path / "m.keras")
    for given, said in (
        ([], "takes 1 inputs, was given 0"),
        ([np.ones((2, 3))], r"takes \(N, 4\)"),
        ([np.ones((0, 4))], "no samples"),
    ):
        with pytest.raises(ModelError, match=said):
            predict(model, given)
    assert to_keras(model) is model


def test_the_same_seed_makes_the_same_model(keras, tmp_path):
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(tmp_path / "m.keras")
    one, two = load(tmp_path / "m.keras"), load(tmp_path / "m.keras")
    x = samples(one)
    np.testing.assert_array_equal(predict(one, x)[0], predict(two, x)[0])
    assert one.sha256 == two.sha256
