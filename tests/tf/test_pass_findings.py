"""What a reviewer broke in the passes, each once."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from edgepack.errors import SpecError
from edgepack.model.training import History
from edgepack.model.training.hooks import hooks
from edgepack.passes.candidate import Candidate
from edgepack.passes.constraints import Palette, Signs
from edgepack.passes.fit import kept_epochs, trained
from edgepack.passes.labels import UserLoss
from edgepack.passes.layers import values
from edgepack.passes.network import flattened, read
from edgepack.passes.select import selector
from edgepack.passes.table import apply
from edgepack.spec.steps import Step, Training
from edgepack.workflow import ask
from edgepack.workflow.compress import layered
from edgepack.workflow.job import Trust
from edgepack.workflow.pack import pack_all
from tests.graphs import graph
from tests.sets import data_of
from tests.tf.export_models import as_model
from tests.tf.rewritten import answers, context, data, feed
from tests.tiny import write_set

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]


def dense(seed: int):
    """Two dense layers in a row."""
    import keras

    keras.utils.set_random_seed(seed)
    entry = keras.Input((16,))
    x = keras.layers.Dense(8, activation="relu", name="a")(entry)
    return keras.Model(entry, keras.layers.Dense(2, name="d")(x))


@pytest.mark.parametrize("seed", range(6))
def test_a_palette_is_cut_with_its_channels_or_given_up(seed):
    """Index 0 and 1 are the ends of a channel's scale, whatever the palette's last index is."""
    made = apply(
        Step(name="cluster", options={"clusters": 5}), Candidate(model=dense(seed)), context(None)
    )
    cut = Step(name="prune-filters", options={"keep": 0.6, "criterion": "l2", "repair": "none"})
    model = made.model
    kept = apply(cut, made, context(model, calibration=data(model)))
    free = apply(cut, replace(made, constraints=()), context(model, calibration=data(model)))
    there, left = (values(one.model.get_layer("d")) for one in (kept, free))
    np.testing.assert_allclose(there, left, atol=1e-4)
    (before,) = (c for c in made.constraints if c.layer == "d")
    assert isinstance(before, Palette)
    rows = [next(i for i, r in enumerate(values(model.get_layer("d"))) if np.allclose(r, row))
            for row in left]  # fmt: skip
    whole = ((before.index[rows] == 0) | (before.index[rows] == 1)).any(0).all()
    assert whole == any(c.layer == "d" for c in kept.constraints)


def test_signs_that_share_one_scale_are_not_equalised():
    model = graph("conv1d")
    signs = Step(name="binary", options={"scales": "tensor", "first": True})
    made = apply(signs, Candidate(model=model), context(model, calibration=data(model)))
    spanning = {
        c.layer for c in made.constraints if isinstance(c, Signs) and len(c.axes) == c.signs.ndim
    }
    assert spanning
    after = apply(Step(name="equalize"), made, context(made.model, calibration=data(made.model)))
    for constraint in after.constraints:
        kept = values(after.model.get_layer(constraint.layer), constraint.weight)
        np.testing.assert_allclose(constraint.project(kept), kept, atol=1e-6)


@pytest.mark.parametrize(
    ("filters", "alpha", "multiple", "left"), [(8, 0.5, 8, 8), (4, 0.5, 4, 4), (24, 0.3, 16, 16)]
)
def test_at_least_one_multiple_of_channels_stays(filters, alpha, multiple, left):
    import keras

    entry = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(filters, 3, activation="relu", name="a")(entry)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(entry, keras.layers.Dense(4)(x))
    step = Step(name="width", options={"alpha": alpha})
    made = apply(step, Candidate(model=model), context(model, channels=multiple)).model
    assert made.get_layer("a").filters == left


def test_a_loss_of_ones_own_takes_a_sequential_model(tmp_path):
    import keras

    (tmp_path / "own.py").write_text(
        "import keras\n\n\ndef loss(y_true, y_pred):\n"
        "    return keras.losses.sparse_categorical_crossentropy(y_true, y_pred)\n"
    )
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(3, activation="softmax", name="d")]
    )
    rng = np.random.default_rng(0)
    rows = data_of(
        tmp_path, x=rng.normal(size=(32, 6)).astype(np.float32), y=rng.integers(3, size=32)
    )
    training = Training(epochs=1, batch_size=16, loss="own.py:loss")
    budget = context(model, train=rows, training=training, folder=tmp_path, code=True)
    assert apply(Step(name="finetune", train=training), Candidate(model=model), budget).steps


def test_qat_stops_where_training_no_longer_helps_and_keeps_the_best(tmp_path):
    model = dense(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(160, 16)).astype(np.float32)
    rows = data_of(tmp_path, x=x, y=model(x).numpy())
    training = Training(epochs=12, batch_size=16, patience=2, learning_rate=3.0)
    budget = context(model, train=rows, calibration=rows, training=training)
    made = apply(Step(name="qat", train=training), Candidate(model=model), budget)
    before, after = answers(model, x)[0], answers(made.model, x)[0]
    assert np.abs(after - before).max() < 0.2 * np.abs(before).max()


@pytest.mark.parametrize(
    ("best", "words"),
    [
        (None, "trained 3 epochs"),
        (2, "trained 2 epochs"),
        (0, "no epoch of its training was better"),
    ],
)
def test_a_training_that_was_thrown_away_is_not_claimed(best, words):
    history = History(
        losses=(3.0, 2.0, 1.0), held_back=(), judged_by="loss", best=best, stopped_early=False
    )
    assert trained(history) == (words,)
    assert kept_epochs(history) == (3 if best is None else best)
    assert trained(None) == ()


@pytest.mark.parametrize("body", ["return None", "return 'much'", "return [1]"])
@pytest.mark.parametrize("kind", ["loss", "step"])
def test_a_function_that_returns_no_loss_is_named(kind, body, tmp_path):
    arguments = {"loss": "y_true, y_pred", "step": "model, optimizer, x, y"}[kind]
    (tmp_path / "own.py").write_text(f"def own({arguments}):\n    {body}\n")
    training = Training(epochs=1, **{kind: "own.py:own"})
    found = hooks(training, None, tmp_path, True)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match=r"own\.py:own returned (nothing|a str|a list)"):
        found.loss(1, 2, 3) if kind == "loss" else found.step(1, 2, 3, 4)  # type: ignore[misc]


@pytest.mark.parametrize("body", ["return x", "return None", "return x, y[:-1]", "return x, None"])
def test_an_augmentation_that_returns_something_else_is_named(body, tmp_path):
    (tmp_path / "own.py").write_text(f"def own(x, y, rng):\n    {body}\n")
    training = Training(epochs=1, augment="own.py:own")
    found = hooks(training, None, tmp_path, True)  # type: ignore[arg-type]
    batch = SimpleNamespace(x=(np.zeros((3, 2)),), y=np.zeros(3))
    with pytest.raises(SpecError, match=r"own\.py:own (returned|made other labels)"):
        found.augment(batch, np.random.default_rng(0))  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ("y_true, y_pred, gamma=2.0", 2.0),
        ("y_true, y_pred, x", 9.0),
        ("y_true, y_pred, x=None", 9.0),
    ],
)
def test_a_loss_keeps_its_own_defaults(arguments, given, tmp_path):
    last = arguments.split(", ")[-1].split("=")[0]
    (tmp_path / "own.py").write_text(f"def own({arguments}):\n    return {last} * 1.0\n")
    found = hooks(Training(epochs=1, loss="own.py:own"), None, tmp_path, True)  # type: ignore[arg-type]
    loss = UserLoss(called=found.loss, structure=0)  # type: ignore[arg-type]
    assert float(loss.loss(1.0, [5.0], [np.float32(9.0)])) == given


def test_a_name_means_one_layer_in_nested_models():
    """A recipe's selection is of the names that records tell."""
    model = layered(as_model(graph("nested"), "nested"), Trust()).keras
    names = [call.name for call in read(model).calls]
    assert names == [call.name for call in read(graph("nested")).calls]
    assert [layer.name for layer in model.layers] == list(dict.fromkeys(names))
    chosen = selector(model, Step(name="lowrank", layers="inner_conv"))
    assert [layer.name for layer in model.layers if chosen(layer)] == ["inner_conv"]
    first = selector(model, Step(name="lowrank", layers="@first"))
    assert [layer.name for layer in model.layers if first(layer)] == ["conv"]
    x = feed(graph("nested"))
    np.testing.assert_allclose(answers(model, x)[0], answers(graph("nested"), x)[0], atol=1e-6)
    plain = graph("residual")
    assert flattened(plain) is plain


def test_relu6_is_looked_at_before_the_pooling_after_it():
    import keras

    entry = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(16, 3, activation="relu6", name="c1")(entry)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(entry, keras.layers.Dense(4, name="d")(x))
    kernel, bias = model.get_layer("c1").get_weights()
    model.get_layer("c1").set_weights([kernel * 20, bias])
    step = Step(name="equalize", options={"relu6": "replace"})
    made = apply(step, Candidate(model=model), context(model, calibration=data(model)))
    assert "cuts" in {skip.layer: skip.why for skip in made.steps[-1].skipped}["c1"]
    x = feed(model, 16)
    np.testing.assert_allclose(answers(made.model, x)[0], answers(model, x)[0], atol=1e-3)


@pytest.mark.parametrize(
    "options", [{"sparsity": 0.9}, {"sparsity": 0.5, "pattern": "block", "block": [8, 4]}]
)
def test_no_layer_dies_of_sparsity(options):
    import keras

    model = keras.Sequential(
        [
            keras.Input((32,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(1 if "block" not in options else 4, name="out"),
        ]
    )
    kernel, bias = model.get_layer("out").get_weights()
    model.get_layer("out").set_weights([kernel * 0.1, bias])
    made = apply(Step(name="sparse", options=options), Candidate(model=model), context(model))
    kernels = [values(layer) for layer in made.model.layers if hasattr(layer, "kernel")]
    assert all((kernel != 0).any() for kernel in kernels)
    zeros = sum(int((kernel == 0).sum()) for kernel in kernels)
    assert zeros >= options["sparsity"] * sum(kernel.size for kernel in kernels) - 1


def test_an_activation_may_be_a_layer():
    import keras

    entry = keras.Input((8,))
    x = keras.layers.Dense(8, activation=keras.layers.LeakyReLU(), name="a")(entry)
    model = keras.Model(entry, keras.layers.Dense(3, name="d")(x))
    step = Step(name="adaround", options={"iterations": 5})
    assert apply(step, Candidate(model=model), context(model, calibration=data(model))).steps


def test_a_fold_tells_what_it_does_to_one_scale_for_all():
    import keras

    entry = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, use_bias=False, name="c1")(entry)
    x = keras.layers.BatchNormalization(name="bn")(x)
    model = keras.Model(entry, keras.layers.Conv2D(8, 3, name="c2")(keras.layers.ReLU()(x)))
    zeros = np.zeros(8)
    step = Step(name="binary", options={"scales": "tensor", "first": True, "last": True})
    for gamma, told in ((np.linspace(0.2, 3, 8), True), (np.full(8, 2.0), False)):
        model.get_layer("bn").set_weights([gamma, zeros, zeros, np.ones(8)])
        made = apply(step, Candidate(model=model), context(model))
        after = apply(Step(name="fold"), made, context(made.model))
        words = " ".join(after.steps[-1].changed)
        assert ("a scale of their own" in words) == told
        assert (len(after.constraints[0].axes) == 3) == told


def test_width_mends_only_the_bias_of_what_has_a_palette():
    import keras

    entry = keras.Input((16,))
    x = keras.layers.Dense(16, activation="relu", name="a")(entry)
    model = keras.Model(entry, keras.layers.Dense(8, name="b")(x))
    made = apply(
        Step(name="cluster", options={"clusters": 4}), Candidate(model=model), context(model)
    )
    budget = context(made.model, calibration=data(made.model))
    after = apply(Step(name="width", options={"alpha": 0.5}), made, budget)
    assert "b: bias mended on samples" in after.steps[-1].changed


def test_what_qat_cannot_cover_is_observed_on_the_training_data(tmp_path):
    """A normalisation that follows no kernel: a product and a sum, nothing rounds between."""
    import keras

    entry = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", name="stem")(entry)
    y = keras.layers.ReLU()(keras.layers.BatchNormalization(name="pre")(x))
    y = keras.layers.Conv2D(4, 3, padding="same", name="c")(y)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([x, y]))
    model = keras.Model(entry, keras.layers.Dense(3, activation="softmax", name="d")(x))
    model.save(tmp_path / "pre.keras")
    rng = np.random.default_rng(0)
    train = write_set(
        tmp_path, "train", x=rng.random((32, 8, 8, 3), np.float32), y=rng.integers(3, size=32)
    )
    recipe = tmp_path / "learned.toml"
    recipe.write_text('scheme = "int8"\n[[steps]]\nname = "qat"\ntrain = { epochs = 1 }\n')
    job = ask.job(
        tmp_path / "pre.keras",
        targets=["generic-linux-x86_64"],
        recipes=[str(recipe)],
        train=str(train),
        out=tmp_path / "out",
    )
    (pack,) = pack_all(job)
    assert pack.status == "ok", pack.error
    assert any("no fake-quant node covers it" in note for note in pack.notes)
