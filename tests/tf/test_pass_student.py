"""Students: other architectures with the model's own input and output, taught by it."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.errors import ModelError, SpecError
from edgepack.model.data import open_data
from edgepack.passes.candidate import Candidate
from edgepack.passes.constraints import Mask
from edgepack.passes.network import read
from edgepack.passes.student import ZOO, Options, _architecture, _end, _entry, _student, apply
from edgepack.spec.data import Dataset
from edgepack.spec.steps import Distillation, Training
from tests.graphs import graph
from tests.tf.rewritten import answers, context, feed, int8_db, same_ends, saved_again

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]
TRAINING = Training(epochs=1, batch_size=16)
TAUGHT = Distillation(labels=0.0)


def teacher(shape, activation="softmax", classes=5):
    """A model of one layer; its answer is made in a layer of its own where that is possible."""
    import keras

    entry = keras.Input(shape, name="given")
    x = keras.layers.Dense(classes, name="score")(keras.layers.Flatten(name="flat")(entry))
    if activation == "softmax":
        x = keras.layers.Softmax(name="answer")(x)
    else:
        x = keras.layers.Activation(activation, name="answer")(x)
    return keras.Model(entry, x, name="teacher")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Unlabelled samples of a model, from a file."""
    folder = tmp_path_factory.mktemp("rows")

    def made(model, count=32):
        x = feed(model, count)
        path = f"{len(list(folder.iterdir()))}.npz"
        np.savez(folder / path, x=x)
        return open_data(Dataset(id="x", source="npz", folder=str(folder), path=path, x="x"))

    return made


def taught(model, rows, options, **more):
    chosen = {"train": rows(model), "training": TRAINING, "distill": TAUGHT} | more
    return apply(Candidate(model=model), options, context(model, **chosen))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "shape"),
    [
        ("mobilenet-like", (16, 16, 3)),
        ("efficientnet-like", (8, 8, 1)),
        ("ds-cnn", (20, 10, 1)),
        ("ds-cnn", (16, 3)),
        ("resnet-tiny", (8, 8, 1)),
    ],
)
def test_each_architecture(architecture, shape, rows, tmp_path):
    model = teacher(shape)
    options = Options(architecture=architecture, width=0.25, depth=0.5)
    done = taught(model, rows, options)
    same_ends(model, done.model)
    assert done.model.name == model.name
    assert done.model.get_layer("answer").activation.__name__ == "softmax"
    np.testing.assert_allclose(answers(done.model, feed(model))[0].sum(1), 1, atol=1e-5)
    saved_again(done.model, tmp_path)
    assert int8_db(done.model) > 10
    assert architecture in done.steps[-1].changed[0]


def small(shape, options, model=None, seed=0):
    """A student that did not train: only its form and its first weights."""
    model = model or teacher(shape)
    network = read(model)
    entry = _entry(network)
    chosen = _architecture(network, entry, options)
    return _student(network, entry, _end(network), chosen, options, context(model, seed=seed))


@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3), (96, 96, 3), (49, 10, 1)])
@pytest.mark.parametrize("architecture", ZOO)
def test_strides_suit_the_input(architecture, shape):
    made = small(shape, Options(architecture=architecture, width=0.25))
    pooled = made.get_layer("student_pool").input.shape[1:3]
    assert min(pooled) >= 3
    assert min(pooled) <= 8
    made(np.zeros((1, *shape), np.float32))


def test_width_and_depth_scale_it():
    sizes = [
        small((16, 16, 3), Options(architecture="resnet-tiny", width=w, depth=d)).count_params()
        for w, d in ((0.5, 1), (1, 1), (2, 1), (1, 2))
    ]
    assert sizes[0] < sizes[1] / 3 < sizes[2] / 9
    assert sizes[3] > 1.5 * sizes[1]
    assert sizes[1] == pytest.approx(78_000, rel=0.03)  # ResNet8 of MLPerf Tiny


def test_weights_are_drawn_from_the_seed():
    options = Options(architecture="resnet-tiny", width=0.5)
    runs = [small((8, 8, 1), options, seed=seed).get_weights() for seed in (3, 3, 4)]
    for a, b in zip(runs[0], runs[1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(runs[0], runs[2], strict=True))


@pytest.mark.parametrize(
    ("shape", "name"),
    [((8, 8, 1), "mobilenet-like"), ((12, 4), "ds-cnn"), ((12, 4, 1), "ds-cnn")],
)
def test_auto_goes_by_the_input(shape, name):
    network = read(teacher(shape))
    assert _architecture(network, _entry(network), Options()) == name


@pytest.mark.parametrize("activation", ["sigmoid", "linear"])
def test_the_answer_comes_from_the_same_function(activation):
    made = small((8, 8, 1), Options(architecture="ds-cnn"), teacher((8, 8, 1), activation))
    assert made.get_layer("answer").activation.__name__ == activation


@pytest.mark.slow
def test_it_learns_the_teacher(rows):
    model = teacher((8, 8, 1), classes=3)
    model.get_layer("score").kernel.assign(3 * model.get_layer("score").kernel)
    options = Options(architecture="resnet-tiny", width=0.5)
    data = rows(model, 256)
    x = feed(model, 256)
    wanted = answers(model, x)[0].argmax(1)
    training = Training(epochs=12, batch_size=16, learning_rate=3e-3)
    done = taught(model, rows, options, train=data, training=training)
    assert (answers(done.model, x)[0].argmax(1) == wanted).mean() > 0.7


@pytest.mark.parametrize(
    ("name", "word"), [("ends", "one input"), ("shared", "one input"), ("decoder", "one row")]
)
def test_models_of_another_form_are_refused(name, word):
    model = graph(name)
    with pytest.raises(ModelError, match=word) as refused:
        apply(Candidate(model=model), Options(), context(model, training=TRAINING))
    assert refused.value.hint


def test_signals_need_an_architecture_for_signals():
    model = teacher((16, 3))
    chosen = context(model, training=TRAINING)
    with pytest.raises(ModelError, match="signal") as refused:
        apply(Candidate(model=model), Options(architecture="resnet-tiny"), chosen)
    assert "ds-cnn" in refused.value.hint


def test_fresh_weights_without_training_are_refused():
    model = teacher((8, 8, 1))
    with pytest.raises(SpecError, match="does not train") as refused:
        apply(Candidate(model=model), Options(), context(model))
    assert "epochs" in refused.value.hint


def test_constraints_end_with_their_layers(rows):
    model = teacher((8, 8, 1))
    mask = Mask(layer="score", keep=np.ones(model.get_layer("score").kernel.shape, bool))
    chosen = context(model, train=rows(model), training=TRAINING, distill=TAUGHT)
    options = Options(architecture="ds-cnn", width=0.1, depth=0.25)
    done = apply(Candidate(model=model, constraints=(mask,)), options, chosen)
    assert done.constraints == ()
    assert any("score: its mask" in line for line in done.steps[-1].changed)
