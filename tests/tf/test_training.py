"""The training loop on real models: losses, judging, and going on after an interruption."""

from __future__ import annotations

import signal
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest

from edgepack.errors import DataError, ModelError
from edgepack.events import Event, listening
from edgepack.model.training import checkpoint as files
from edgepack.model.training import discard
from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.fit import fit
from edgepack.passes.network import read, rebuild
from edgepack.passes.table import apply
from edgepack.spec.steps import Step, Training
from tests.sets import data_of, digits

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import keras
    import tensorflow as tf

L = keras.layers


def context(data, model=None, **training) -> Context:
    return Context(
        teacher=model,
        scheme="int8",
        select=lambda layer: True,
        seed=5,
        train=data,
        training=Training(**({"epochs": 2, "learning_rate": 5e-3} | training)),
    )


def drawing(width=12):
    """A small model with whatever has state of its own: dropout and batch normalisation."""
    keras.utils.set_random_seed(1)
    image = keras.Input((8, 8, 1))
    x = L.BatchNormalization()(L.Conv2D(width, 3, name="conv")(image))
    x = L.Dropout(0.3)(L.Flatten()(L.ReLU()(x)))
    return keras.Model(image, L.Dense(10, activation="softmax")(x), name="drawing")


def weights(model) -> list[np.ndarray]:
    return [np.array(weight) for weight in model.get_weights()]


def same(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def head(end, units=4):
    keras.utils.set_random_seed(2)
    x = keras.Input((6,))
    y = L.Dense(units, activation=None if end == "linear" else end)(x)
    if end == "reshaped":
        y = L.Reshape((units,))(L.Softmax()(L.Reshape((1, units))(y)))
    return keras.Model(x, y)


RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 6)).astype(np.float32)
CLASSES = X[:, :4].argmax(1)


@pytest.mark.parametrize(
    ("end", "units", "y", "reached"),
    [
        ("softmax", 4, CLASSES, 0.45),
        ("linear", 4, CLASSES, 0.45),
        ("sigmoid", 4, CLASSES, 0.35),
        ("softmax", 4, np.eye(4)[CLASSES], 0.45),
        ("sigmoid", 1, (X[:, 0] > 0), 0.25),
        ("linear", 1, (X[:, 0] > 0).astype(int), 0.25),
        ("linear", 2, X[:, :2] @ [[1, 2], [3, 4]], 1.2),
        ("linear", 6, None, 0.05),
    ],
)
def test_every_kind_of_label_is_learned(tmp_path, end, units, y, reached):
    model = head(end, units)
    data = data_of(tmp_path, y=y, x=X)
    history = fit(model, context(data, epochs=40, learning_rate=0.05), label="learn")
    assert history is not None
    assert history.losses[-1] < reached < history.losses[0]


def test_the_first_loss_is_the_one_that_keras_computes(tmp_path):
    for end, y, theirs in (
        ("softmax", CLASSES, keras.losses.SparseCategoricalCrossentropy()),
        ("linear", CLASSES, keras.losses.SparseCategoricalCrossentropy(from_logits=True)),
        ("softmax", np.eye(4)[CLASSES], keras.losses.CategoricalCrossentropy()),
        ("sigmoid", np.eye(4)[CLASSES], keras.losses.BinaryCrossentropy()),
        ("linear", X[:, :4] * 2, keras.losses.MeanSquaredError()),
    ):
        model = head(end)
        wanted = float(theirs(y, model(X)))
        budget = context(data_of(tmp_path, y=y, x=X), epochs=1, batch_size=96)
        history = fit(model, budget, label="learn")
        assert history is not None
        assert history.losses[0] == pytest.approx(wanted, rel=1e-5)


def test_several_outputs_need_more_than_labels(tmp_path):
    x = keras.Input((6,))
    model = keras.Model(x, [L.Dense(4)(x), L.Dense(2)(x)])
    with pytest.raises(DataError, match="has 2 outputs, but labels are one array"):
        fit(model, context(data_of(tmp_path, y=CLASSES, x=X)), label="learn")


def test_a_loss_that_is_no_number_ends_the_training(tmp_path):
    data = data_of(tmp_path, y=X[:, :4] * 1e18, x=X * 1e18)
    with pytest.raises(ModelError, match=r"learn: the loss became (nan|inf) in epoch \d"):
        fit(head("linear"), context(data, epochs=20, optimizer="sgd"), label="learn")


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_rate_climbs_and_then_does_what_the_schedule_says(schedule):
    from edgepack.model.training.optimizer import make_optimizer

    training = Training(epochs=1, learning_rate=0.1, warmup=0.2, schedule=schedule)
    rate = make_optimizer(training, 100, [keras.Variable(np.zeros(2))])._learning_rate
    found = np.array([float(rate(step)) for step in range(101)])
    np.testing.assert_allclose(found[:21], np.arange(21) / 20 * 0.1, atol=1e-6)
    wanted = 0.5 * (1 + np.cos(np.pi * np.arange(81) / 80)) if schedule == "cosine" else 1.0
    np.testing.assert_allclose(found[20:], 0.1 * wanted * np.ones(81), atol=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_weight_decay_is_for_kernels(tmp_path, optimizer):
    found = {}
    for decay in (0.0, 0.5):
        model = head("linear")
        options = {"optimizer": optimizer, "weight_decay": decay, "schedule": "constant"}
        data = data_of(tmp_path, y=np.zeros((96, 4)), x=np.zeros_like(X))
        fit(model, context(data, epochs=1, learning_rate=0.1, **options), label="learn")
        found[decay] = weights(model)
    np.testing.assert_allclose(found[0.5][0], found[0.0][0] * 0.95**3, rtol=1e-4)
    np.testing.assert_array_equal(found[0.5][1], found[0.0][1])


def test_the_best_epoch_is_kept_and_training_stops(tmp_path):
    """A rate so large that it gets worse: the weights from before the training are the best."""
    model = drawing()
    before = weights(model)
    budget = context(digits(tmp_path, 200), epochs=9, learning_rate=3.0, patience=2)
    history = fit(model, budget, label="learn")
    assert history is not None
    assert history.best == 0
    assert history.stopped_early
    assert len(history.losses) == len(history.held_back) == 2
    assert same(before, weights(model))


def test_the_best_by_a_metric(tmp_path):
    model = drawing()
    budget = context(digits(tmp_path, 600), epochs=4, patience=4, metric="top1", holdout=0.3)
    history = fit(model, budget, label="learn")
    assert history is not None
    assert history.judged_by == "top1"
    assert history.best == 1 + int(np.argmax(history.held_back))
    assert history.held_back[history.best - 1] > 0.7


class Counting:
    """A guide that settles after so many updates and remembers how many it has seen."""

    def __init__(self, settles: int) -> None:
        self.settles, self.seen, self.settled = settles, 0, settles == 0

    def before(self, done: int, total: int) -> None:
        assert done == self.seen

    def after(self, done: int, total: int) -> None:
        self.seen += 1
        assert done == self.seen <= total
        self.settled = self.seen >= self.settles

    def state(self):
        return {"seen": np.array(self.seen)}

    def restore(self, state) -> None:
        self.seen = int(state["seen"])


def test_nothing_is_best_while_a_guide_is_unsettled(tmp_path):
    data = digits(tmp_path, 200)
    budget = context(data, epochs=4, learning_rate=1.0, patience=1, batch_size=20)
    never = fit(drawing(), budget, label="learn", guides=[Counting(1000)])
    late = fit(drawing(), budget, label="learn", guides=[Counting(27)])
    assert never is not None
    assert (never.best, len(never.losses)) == (None, 4)
    assert late is not None
    assert late.best in (3, 4)


def interrupted(budget: Context, after: int) -> None:
    """Train until so many updates are done, then Ctrl-C."""

    def hear(event: Event) -> None:
        if event.done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), listening(hear):
        fit(drawing(), budget, label="learn", guides=[Counting(0)])


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adamw", "weight_decay": 1e-3, "warmup": 0.2},
        {"optimizer": "sgd", "patience": 3, "augment": "shift"},
        {"patience": 1, "metric": "top1", "learning_rate": 0.3},
    ],
)
def test_going_on_gives_the_same_bytes(tmp_path, options):
    data = digits(tmp_path, 200)
    budget = context(data, epochs=4, **options)
    whole, again = drawing(), drawing()
    history = fit(whole, budget, label="learn", guides=[Counting(0)])
    resumed = replace(budget, checkpoint=tmp_path / "step.ckpt")
    each = 5 if "patience" in options else 6
    interrupted(resumed, after=each + 2)
    files_then = sorted(tmp_path.glob("step-*.ckpt"))
    heard: list[Event] = []
    with listening(heard.append):
        assert fit(again, resumed, label="learn", guides=[Counting(0)]) == history
    assert same(weights(whole), weights(again))
    assert heard[1].done == each
    assert sorted(tmp_path.glob("step-*.ckpt")) == files_then
    assert len(files_then) == 1


def test_a_finished_training_is_passed_over_until_it_is_discarded(tmp_path):
    budget = context(digits(tmp_path, 200), patience=1)
    budget = replace(budget, checkpoint=tmp_path / "step.ckpt")
    first, second, third = drawing(), drawing(), drawing()
    fit(first, budget, label="learn")
    heard: list[Event] = []
    with listening(heard.append):
        fit(second, budget, label="learn")
        assert not any(event.kind == "advance" and event.seconds > 5 for event in heard)
        assert len([event for event in heard if event.kind == "advance"]) == 1
        assert budget.checkpoint is not None
        discard(budget.checkpoint)
        fit(third, budget, label="learn")
    assert len(heard) > 8
    assert same(weights(first), weights(second))
    assert same(weights(first), weights(third))


def test_a_checkpoint_of_something_else_or_a_damaged_one_is_not_used(tmp_path):
    data = digits(tmp_path, 200)
    budget = replace(context(data), checkpoint=tmp_path / "step.ckpt")
    plain = drawing()
    fit(plain, replace(budget, checkpoint=None), label="learn")
    for other in (
        replace(budget, seed=6),
        replace(budget, training=Training(epochs=2, learning_rate=6e-3)),
        replace(budget, train=data.select(np.arange(190))),
    ):
        fit(drawing(), other, label="learn")
    fit(drawing(13), budget, label="learn")
    made = set(tmp_path.glob("step-*.ckpt"))
    assert len(made) == 4
    found = drawing()
    fit(found, budget, label="learn")
    assert same(weights(plain), weights(found))
    (own,) = set(tmp_path.glob("step-*.ckpt")) - made
    content = own.read_bytes()
    own.write_bytes(content[: len(content) // 2])
    assert files.load(own) is None
    found = drawing()
    fit(found, budget, label="learn")
    assert same(weights(plain), weights(found))


CHILD = """
import sys
from pathlib import Path
import numpy as np
from dataclasses import replace
from tests.tf.test_training import context, digits, drawing, weights
from edgepack.events import listening
from edgepack.passes.fit import fit

folder, out = Path(sys.argv[1]), Path(sys.argv[2])
plain = context(digits(folder, 600), epochs=3, patience=3, augment="noise")
budget = replace(plain, checkpoint=folder / "step.ckpt")
with listening(lambda event: print(event.done, flush=True)):
    model = drawing()
    fit(model, budget, label="learn")
    print("whole", flush=True)
whole = drawing()
fit(whole, plain, label="learn")
np.savez(out, *weights(model), *weights(whole))
"""


@pytest.mark.slow
def test_a_process_that_was_interrupted_is_gone_on_with_by_another(tmp_path):
    """A real SIGINT in the second epoch; the second process goes on and matches a whole run."""
    out = tmp_path / "weights.npz"
    command = [sys.executable, "-c", CHILD, str(tmp_path), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) == 20:  # of 16 updates an epoch
                child.send_signal(signal.SIGINT)
                break
        _, told = child.communicate(timeout=120)
    assert b"KeyboardInterrupt" in told
    assert child.returncode != 0
    assert not out.exists()
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split()[:2] == ["0", "16"]
    assert done.stdout.split()[-1] == "whole"
    with np.load(out) as found:
        arrays = [found[name] for name in found.files]
    half = len(arrays) // 2
    assert same(arrays[:half], arrays[half:])


def test_finetune_says_what_it_did_and_leaves_the_given_model_alone(tmp_path):
    model = drawing()
    before = weights(model)
    step = Step(name="finetune", train=Training(epochs=1))
    done = apply(step, Candidate(model=model), context(digits(tmp_path, 200), model, epochs=1))
    assert same(before, weights(model))
    assert not same(before, weights(done.model))
    (words,) = done.steps[0].changed
    assert words.startswith("all weights: 1 epochs, loss ")


def test_progress_tells_loss_and_metric(tmp_path):
    heard: list[Event] = []
    budget = context(digits(tmp_path, 300), epochs=1, metric="top1")
    with listening(heard.append):
        fit(drawing(), budget, label="learn")
    last = heard[-1].detail.split(", ")
    assert last[0] == "epoch 1/1"
    assert [word.rpartition(" ")[0] for word in last[1:]] == ["loss", "top1", "held-back top1"]


def test_a_model_that_tensors_flow_through_in_a_dictionary(tmp_path):
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    model = keras.Model({"b": b, "a": a}, {"out": L.Dense(4)(L.Concatenate()([a, b]))})
    model = rebuild(read(model))
    data = data_of(tmp_path, y=CLASSES, a=X, b=X)
    history = fit(model, context(data, epochs=30, learning_rate=0.05), label="learn")
    assert history is not None
    assert history.losses[-1] < 0.5


def test_a_loss_that_no_weight_changes_is_refused(tmp_path):
    x = keras.Input((6,))
    model = keras.Model(x, L.Lambda(lambda v: tf.round(v))(L.Dense(4)(x)))
    with pytest.raises(ModelError, match="does not depend on any weight"):
        fit(model, context(data_of(tmp_path, y=X[:, :4], x=X)), label="learn")
