"""What the tests of passes that rewrite models share: contexts, inputs, and the int8 check."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from edgepack.export import compare, export
from edgepack.model.predict import predict
from edgepack.passes.candidate import Context
from edgepack.passes.network import read, rebuild
from edgepack.runtimes import tables
from edgepack.spec.recipe import Recipe
from tests.tf.export_models import Samples, as_model


def context(model: Any, **more: Any) -> Context:
    """A context in which every layer may be touched."""
    return Context(**{"teacher": model, "scheme": "int8", "select": lambda layer: True} | more)


def feed(model: Any, count: int = 4, seed: int = 1) -> Any:
    """Seeded inputs as the model takes them."""
    rng = np.random.default_rng(seed)
    made = [rng.normal(size=(count, *t.shape[1:])).astype(np.float32) for t in model.inputs]
    return made if len(made) > 1 else made[0]


class Rows:
    """Samples in memory, with what passes ask of ``edgepack.model.data.Data``."""

    def __init__(self, *x: np.ndarray) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x[0])

    def select(self, indices: Any) -> Rows:
        return Rows(*(x[indices] for x in self.x))

    def batches(self, size: int):
        for start in range(0, len(self), size):
            yield SimpleNamespace(x=tuple(x[start : start + size] for x in self.x), y=None)


def data(model: Any, count: int = 64, seed: int = 2) -> Rows:
    """Samples that a pass can look at."""
    given = feed(model, count, seed)
    return Rows(*(given if isinstance(given, list) else [given]))


def answers(model: Any, x: Any) -> list[np.ndarray]:
    """The outputs in inference, flat."""
    import keras

    return [np.asarray(y) for y in keras.tree.flatten(model(x, training=False))]


def same_ends(model: Any, made: Any) -> None:
    """Names and shapes of inputs and outputs are kept."""
    assert [t.name for t in made.inputs] == [t.name for t in model.inputs]
    assert [t.shape for t in made.inputs] == [t.shape for t in model.inputs]
    assert [t.shape for t in made.outputs] == [t.shape for t in model.outputs]
    assert made.output_names == rebuild(read(model)).output_names


def saved_again(model: Any, folder: Any) -> None:
    """The model computes the same after it was saved and loaded."""
    import keras

    model.save(folder / "again.keras")
    again = keras.models.load_model(folder / "again.keras")
    x = feed(model)
    for a, b in zip(answers(model, x), answers(again, x), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def int8_db(model: Any) -> float:
    """The signal-to-noise ratio of the int8 export in LiteRT, in dB."""
    source = as_model(model)
    litert = tables.load("litert-2.3")
    recipe = Recipe(id="t", scheme="int8")
    made = export(source, recipe, litert, Samples(source, 40))
    fresh = Samples(source, 16, seed=1).x
    check = compare(made.content, fresh, predict(source, fresh), source, recipe, litert)
    assert check.status == "ok"
    return np.inf if check.sqnr_db is None else float(check.sqnr_db)
