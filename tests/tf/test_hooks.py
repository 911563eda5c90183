"""A user's own loss, metric, augmentation and train step: models that are no classifiers."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from edgepack.errors import DataError, SpecError
from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.fit import fit
from edgepack.passes.network import read, rebuild
from edgepack.passes.table import apply
from edgepack.spec.steps import Distillation, Step, Training
from tests.sets import data_of

pytestmark = pytest.mark.tf

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import keras

L = keras.layers
OWN = """
import keras
import numpy as np
import tensorflow as tf
from keras import ops


def dice(y_true, y_pred):
    y = ops.one_hot(ops.cast(y_true, "int32"), 2)
    shared = ops.sum(y * y_pred, (1, 2, 3))
    return 1 - 2 * shared / (ops.sum(y, (1, 2, 3)) + ops.sum(y_pred, (1, 2, 3)))


def overlap(y_true, outputs):
    found = outputs[0].argmax(-1)
    return ((found == 1) & (y_true == 1)).sum() / ((found == 1) | (y_true == 1)).sum()


def mirrored(x, y, rng):
    flip = rng.random(len(x)) < 0.5
    x, y = x.copy(), y.copy()
    x[flip], y[flip] = x[flip, :, ::-1], y[flip, :, ::-1]
    return x, y


def boxes(y_true, y_pred):
    there = y_true[:, 4]
    found = keras.losses.binary_crossentropy(there[:, None], y_pred["there"])
    return found + there * ops.mean(ops.square(y_true[:, :4] - y_pred["box"]), -1)


def again(y_true, y_pred, x):
    return ops.square(y_pred - x)


def update(model, optimizer, x, y):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(x, training=True) - tf.cast(y, tf.float32)))
    variables = model.trainable_variables
    optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
    return loss


def near(y_true, outputs):
    return -float(np.abs(outputs[0] - y_true).mean())


def broken(y_true, y_pred):
    raise ValueError("the shapes do not agree")
"""
RNG = np.random.default_rng(0)


@pytest.fixture
def own(tmp_path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path


def context(folder, data, *, teacher=None, distill=None, code=True, **training) -> Context:
    return Context(
        teacher=teacher,
        scheme="int8",
        select=lambda layer: True,
        seed=3,
        train=data,
        distill=distill,
        training=Training(**({"epochs": 12, "learning_rate": 1e-2, "batch_size": 16} | training)),
        folder=folder,
        code=code,
    )


def squares() -> tuple[np.ndarray, np.ndarray]:
    """Noisy images of a bright square each, and which pixels it covers."""
    x = RNG.normal(0, 0.2, (96, 8, 8, 1)).astype(np.float32)
    y = np.zeros((96, 8, 8), np.int64)
    for image, mask in zip(x, y, strict=True):
        top, left = RNG.integers(0, 5, 2)
        image[top : top + 4, left : left + 4] += 1
        mask[top : top + 4, left : left + 4] = 1
    return x, y


def segmenter():
    keras.utils.set_random_seed(1)
    image = keras.Input((8, 8, 1))
    x = L.Conv2D(6, 3, padding="same", activation="relu")(image)
    return keras.Model(image, L.Conv2D(2, 1, activation="softmax", name="pixel")(x))


def test_segmentation_by_a_loss_a_metric_and_an_augmentation_of_ones_own(own):
    x, y = squares()
    options = {"loss": "own.py:dice", "metric": "own.py:overlap", "augment": "own.py:mirrored"}
    budget = context(own, data_of(own, y=y, x=x), patience=12, **options)
    model = segmenter()
    history = fit(model, budget, label="learn")
    assert history is not None
    assert history.judged_by == "own.py:overlap"
    assert max(history.held_back) > 0.75 > history.held_back[0]
    assert history.best == 1 + int(np.argmax(history.held_back))


def test_pixels_are_learned_without_any_function(own):
    x, y = squares()
    history = fit(segmenter(), context(own, data_of(own, y=y, x=x)), label="learn")
    assert history is not None
    assert history.losses[-1] < 0.5 * history.losses[0]


def detector(seed=1):
    keras.utils.set_random_seed(seed)
    image = keras.Input((8, 8, 1), name="image")
    x = L.Flatten()(L.Conv2D(4, 3, activation="relu")(image))
    x = L.Dense(16, activation="relu")(x)
    outputs = {"there": L.Dense(1, activation="sigmoid")(x), "box": L.Dense(4)(x)}
    return keras.Model(image, outputs)


def scenes() -> tuple[np.ndarray, np.ndarray]:
    """Images, half of them empty; (top, left, bottom, right, whether there is a square)."""
    x, masks = squares()
    rows, columns = masks.any(2).argmax(1), masks.any(1).argmax(1)
    y = np.stack([rows, columns, rows + 4, columns + 4], 1) / 8
    there = np.arange(96) % 2
    x[there == 0] = RNG.normal(0, 0.2, x[there == 0].shape)
    return x, np.concatenate([y, there[:, None]], 1).astype(np.float32)


def test_detection_with_two_outputs_and_one_array_of_labels(own):
    x, y = scenes()
    data = data_of(own, y=y, x=x)
    model = rebuild(read(detector()))
    history = fit(model, context(own, data, epochs=25, loss="own.py:boxes"), label="learn")
    assert history is not None
    assert history.losses[-1] < 0.15 * history.losses[0]
    found = model(x)
    assert ((found["there"].numpy()[:, 0] > 0.5) == y[:, 4]).mean() > 0.95
    with pytest.raises(DataError, match="has 2 outputs"):
        fit(detector(), context(own, data), label="learn")


def test_a_users_loss_and_the_teacher_together(own):
    x, y = scenes()
    data, student = data_of(own, y=y, x=x), detector(2)
    teacher = detector(1)
    fit(teacher, context(own, data, epochs=25, loss="own.py:boxes"), label="learn")
    budget = context(
        own, data, teacher=teacher, distill=Distillation(labels=0.5), loss="own.py:boxes", epochs=25
    )
    history = fit(student, budget, label="learn")
    assert history is not None
    assert history.losses[-1] < 0.3 * history.losses[0]


def test_a_loss_that_looks_at_the_inputs_needs_no_labels(own):
    x = RNG.normal(size=(64, 4)).astype(np.float32)
    image = keras.Input((4,))
    model = keras.Model(image, L.Dense(4)(L.Dense(4)(image)))
    budget = context(own, data_of(own, x=x), loss="own.py:again", epochs=40)
    history = fit(model, budget, label="learn")
    assert history is not None
    assert history.losses[-1] < 0.2 * history.losses[0]


def test_regression_by_a_step_of_ones_own_in_a_recipes_step(own):
    x = RNG.normal(size=(96, 3)).astype(np.float32)
    y = (x @ [[1.0], [-2.0], [0.5]]).astype(np.float32)
    image = keras.Input((3,))
    model = keras.Model(image, L.Dense(1)(image))
    budget = context(
        own,
        data_of(own, y=y, x=x),
        step="own.py:update",
        metric="own.py:near",
        patience=30,
        epochs=30,
        learning_rate=0.1,
    )
    done = apply(Step(name="finetune", train=budget.training), Candidate(model=model), budget)
    assert float(np.abs(done.model(x).numpy() - y).mean()) < 0.05
    assert done.steps[0].changed


def test_what_fails_in_a_function_names_it(own):
    x, y = squares()
    data = data_of(own, y=y, x=x)
    with pytest.raises(SpecError, match=r"own\.py:broken failed: ValueError: the shapes do not"):
        fit(segmenter(), context(own, data, loss="own.py:broken"), label="learn")
    with pytest.raises(SpecError, match="not allowed by default"):
        fit(segmenter(), context(own, data, loss="own.py:dice", code=False), label="learn")
