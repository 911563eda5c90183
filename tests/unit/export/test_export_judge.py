"""Verdicts on outputs, names in scopes, cut logits."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.export import choose
from edgepack.export.choose import PLAIN, WAYS, automatic, sharpened
from edgepack.export.compare import judged
from edgepack.export.convert import keys
from edgepack.export.failure import layer_of, suffixed
from edgepack.export.observe import Statistics, Watched

EMPTY = Statistics(seen={}, means={}, least_winner={})
WATCHED = Watched(samples=2, first=EMPTY, whole=EMPTY, kept=[], answers=[])


def test_equal_outputs_have_no_ratio():
    check = judged([np.ones((2, 3))], [np.ones((2, 3))], "litert-2.3", 20.0)
    assert (check.status, check.mse, check.max_abs, check.sqnr_db) == ("ok", 0.0, 0.0, None)
    assert check.samples == 2


def test_error_over_all_outputs():
    wanted = [np.ones((2, 3)), np.full((2, 1), 3.0)]
    found = [wanted[0] + 0.1, wanted[1]]
    check = judged(found, wanted, "litert-2.3", 0.0)
    assert check.mse == pytest.approx(0.06 / 8)
    assert check.max_abs == pytest.approx(0.1)
    assert check.sqnr_db == pytest.approx(10 * np.log10((6 + 18) / 8 / (0.06 / 8)))


def test_garbage_fails_with_a_reason():
    random = np.random.default_rng(0)
    check = judged([random.normal(size=(9, 4))], [random.normal(size=(9, 4))], "tflm", 0.0)
    assert check.status == "failed"
    assert "dB" in check.why


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_outputs_that_are_not_finite_fail(bad):
    check = judged([np.array([[bad]])], [np.array([[1.0]])], "tflm", -99.0)
    assert check.status == "failed"
    assert check.mse is None


@pytest.mark.parametrize(
    ("scope", "layer"),
    [
        ("functional_1/dense_1/MatMul", "dense"),
        ("functional_1/dense_2/MatMul", "dense_2"),
        ("outer/inner/conv/Conv2D;outer/inner/bn/Add", "bn"),
        ("nothing/here", None),
    ],
)
def test_the_layer_of_a_scope(scope, layer):
    known = dict.fromkeys(("dense", "dense_2", "conv", "bn"), "Layer")
    assert layer_of(scope, known) == layer


@pytest.mark.parametrize(
    ("scopes", "renamed"),
    [
        (["m/dense/MatMul", "m/dense_1/MatMul"], False),
        (["m_1/dense_1/MatMul", "m_1/dense_1_1/MatMul"], True),
        (["m_1/dense_1/MatMul;m_1/relu_1/Relu", "m_1/relu_1/add"], True),
        (["m_1/dense_1/MatMul", "m/dense/MatMul"], False),
        (["dense", "m_1/dense_1/add"], True),  # an output is called as its layer
        (["nothing/here"], False),
        ([], False),
    ],
)
def test_scopes_that_tracing_renamed(scopes, renamed):
    known = dict.fromkeys(("dense", "dense_1", "relu", "add"), "Layer")
    assert suffixed(scopes, known) == renamed
    if renamed:
        assert layer_of("m_1/dense_1/MatMul", known, renamed=True) == "dense"
        assert layer_of("m_1/dense_1_1/MatMul", known, renamed=True) == "dense_1"


def test_names_become_distinct_identifiers():
    assert keys(["a/b", "a:b", "3d", "", "x"]) == ["a_b", "a_b_1", "input_3d", "input", "x"]


@pytest.mark.parametrize(
    ("low", "winner", "cut"), [(-100, 5, -12), (-100, -3, -15), (-4, 5, -4), (-100, -90, -100)]
)
def test_logits_lose_what_a_softmax_does_not_see(low, winner, cut):
    chosen = {"logits": (float(low), 9.0), "other": (-50.0, 1.0)}
    assert sharpened(chosen, {"logits": winner}) == {"logits": (cut, 9.0), "other": (-50.0, 1.0)}


@pytest.mark.parametrize(
    ("errors", "best"),
    [((1.0, 0.99, 0.97, 0.96), 0), ((1.0, 0.5, 0.97, 0.96), 1), ((1.0, 0.9, 0.97, 0.2), 3)],
)
def test_auto_leaves_min_max_only_for_a_clear_gain(monkeypatch, errors, best):
    known = {str(way).encode(): error for way, error in zip(WAYS, errors, strict=True)}
    monkeypatch.setattr(choose, "decisive_error", lambda content, watched: known[content])
    choice = automatic(WATCHED, lambda way, statistics, ranges: str(way).encode())
    assert choice.way == WAYS[best]
    assert choice.content == str(WAYS[best]).encode()
    assert WAYS[0] == PLAIN


def test_auto_falls_back_where_nothing_can_be_judged(monkeypatch):
    monkeypatch.setattr(choose, "decisive_error", lambda content, watched: np.inf)
    assert automatic(WATCHED, lambda *_: b"").way == PLAIN
