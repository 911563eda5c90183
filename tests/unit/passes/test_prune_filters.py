"""Which channels go: ties, bounds, the choice within a budget, rounds, and cut constraints."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import SpecError
from edgepack.passes.budget import bounds, choose
from edgepack.passes.candidate import Context
from edgepack.passes.constraints import Mask, Palette, Signs
from edgepack.passes.network import Network, Value
from edgepack.passes.prices import Prices
from edgepack.passes.prune_filters import _rounds
from edgepack.passes.slicing import Cut, _cut
from edgepack.passes.table import options
from edgepack.passes.units import Atoms, Units
from edgepack.spec.steps import Step, Training

NONE = Network(name="none", calls=(), inputs=(), outputs=())


def chain(*sizes: int) -> tuple[Units, Prices]:
    """Layers in a row, each of ``sizes`` channels; the cost is the products of neighbours."""
    starts = np.cumsum([0, *sizes])
    of = {Value(i): np.arange(starts[i], starts[i + 1]) for i in range(len(sizes))}
    units = Units(network=NONE, of=of, pins={}, makers=())
    last = len(sizes)
    prices = Prices(
        fixed=np.array([0] * last + [1]),
        times=np.vstack([np.eye(last, dtype=np.int64), np.zeros((1, last), np.int64)]),
        terms=tuple((0, 1.0, i, i + 1) for i in range(last)),
    )
    return units, prices


def context(epochs: int | None = None, checkpoint: Path | None = None) -> Context:
    training = Training(epochs=epochs) if epochs else None
    return Context(
        teacher=None,
        scheme="int8",
        select=lambda layer: True,
        training=training,
        checkpoint=checkpoint,
    )


@pytest.mark.parametrize(
    "wrong", [{"keep": 0}, {"keep": 1.5}, {"of": "watts"}, {"criterion": "l3"}, {"filters": 3}]
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, object]):
    with pytest.raises(SpecError):
        options(Step(name="prune-filters", options=wrong), "here")


def test_tied_channels_are_one_unit_and_a_pin_holds_all_of_it():
    atoms = Atoms()
    a, b, c = atoms.new(3), atoms.new(3), atoms.new(2)
    atoms.tie(a, b)
    atoms.tie(b[1:], c)
    atoms.pin(c[:1], "c is needed")
    units = atoms.units(NONE, {Value(0): a, Value(1): b, Value(2): c}, ())
    assert units.count == 3
    assert units.of[Value(2)].tolist() == units.of[Value(0)][1:].tolist()
    assert units.pins == {1: "c is needed"}
    assert [group.tolist() for group in units.groups] == [[0], [2]]


def test_units_of_one_group_are_in_the_same_places():
    of = {Value(0): np.array([0, 1, 2, 3]), Value(1): np.array([2, 2, 3, 3, 0])}
    units = Units(network=NONE, of=of, pins={}, makers=())
    assert [group.tolist() for group in units.groups] == [[0], [1], [2, 3]]


@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    keep=st.floats(0.05, 1),
    multiple=st.sampled_from([1, 2, 4]),
    max_cut=st.floats(0, 1),
    least=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_a_choice_meets_its_limit_within_its_bounds(sizes, keep, multiple, max_cut, least, seed):
    units, prices = chain(*sizes)
    scores = np.random.default_rng(seed).random(units.count)
    limits = bounds(units, least=least, max_cut=max_cut, multiple=multiple)
    limit = keep * prices.total(np.array(sizes))
    choice = choose(units, scores, prices, limit, limits)
    counts = np.array([choice.kept[group].sum() for group in units.groups])
    assert choice.met == (prices.total(counts) <= limit)
    for count, size, group in zip(counts, sizes, units.groups, strict=True):
        assert count >= min(size, max(least, 1))
        assert count >= (1 - max_cut) * size - 1e-6
        assert count == size or count % multiple == 0
        stay, go = scores[group][choice.kept[group]], scores[group][~choice.kept[group]]
        assert not len(go) or stay.min() >= go.max()
    if not choice.met:  # nothing more could have gone
        below = (counts - 1) // multiple * multiple
        assert (below < limits.floors).all()


def test_cheap_importance_goes_first_and_what_still_fits_comes_back():
    units, prices = chain(10, 10)
    scores = np.concatenate([np.full(10, 1.0), np.full(10, 5.0)])
    limits = bounds(units, least=1, max_cut=1.0, multiple=1)
    choice = choose(units, scores, prices, 60.0, limits)
    assert [choice.kept[group].sum() for group in units.groups] == [5, 10]
    coarse = bounds(units, least=1, max_cut=1.0, multiple=4)
    choice = choose(units, scores, prices, 60.0, coarse)
    assert [choice.kept[group].sum() for group in units.groups] == [4, 10]


def test_the_peak_of_several_moments_is_lowered_though_no_single_group_can():
    units, _ = chain(4, 4)
    prices = Prices(
        fixed=np.array([0, 0, 1]),
        times=np.array([[1, 0], [0, 1], [0, 0]]),
        terms=((0, 10.0, 0, 2), (1, 10.0, 1, 2)),
    )
    assert prices.total(np.array([4, 4])) == 40
    limits = bounds(units, least=1, max_cut=1.0, multiple=1)
    choice = choose(units, np.arange(8.0), prices, 20.0, limits)
    assert [choice.kept[group].sum() for group in units.groups] == [2, 2]


@given(st.integers(1, 40), st.integers(1, 8), st.floats(0.05, 0.95))
def test_rounds_share_out_all_epochs_and_reach_what_is_kept(epochs, rounds, keep):
    parts = list(_rounds(keep, rounds, context(epochs)))
    shares = [share for share, _ in parts]
    spent = [inner.training.epochs for _, inner in parts]
    assert sum(spent) == epochs
    assert max(spent) == spent[-1]
    assert shares[-1] == pytest.approx(keep)
    ratios = np.diff(np.log([1.0, *shares]))
    np.testing.assert_allclose(ratios, ratios[0])


def test_each_round_has_a_checkpoint_of_its_own():
    files = [inner.checkpoint for _, inner in _rounds(0.5, 3, context(9, Path("a/step.ckpt")))]
    assert len(set(files)) == 3
    assert files[-1] == Path("a/step.ckpt")
    assert len(list(_rounds(0.5, 3, context()))) == 3


def cut_of(places: dict[int, list[int]]) -> Cut:
    layer = SimpleNamespace(weights=[])
    found = {axis: np.array(kept) for axis, kept in places.items()}
    return Cut(layer=layer, name="a", width=2, places={"kernel": found})


def test_constraints_are_cut_as_their_weight_is():
    keep = np.array([[True, False, True], [False, True, True]])
    made = _cut(Mask(layer="a", keep=keep), cut_of({1: [0, 2]}))
    assert made.keep.tolist() == [[True, True], [False, True]]
    signs = np.array([[1, -1, 0], [0, 1, 1]], np.int8)
    made = _cut(Signs(layer="a", signs=signs, axes=(0,)), cut_of({0: [1]}))
    assert made.signs.tolist() == [[0, 1, 1]]
    made = _cut(Palette(layer="a", index=np.array([[0, 1], [2, -1]], np.int32)), cut_of({0: [0]}))
    assert made.index.tolist() == [[0, 1]]


def test_a_scaled_palette_needs_the_ends_of_each_channels_scale():
    index = np.array([[0, 2], [1, 0], [2, 1]], np.int32)
    palette = Palette(layer="a", index=index, axes=(0,))
    assert _cut(palette, cut_of({0: [0, 1]})).index.tolist() == [[0, 2], [1, 0]]
    assert _cut(palette, cut_of({0: [0]})) is None  # 2 is within the scale, not its end
    assert _cut(palette, cut_of({0: [1, 2]})).index.tolist() == [[1, 0], [2, 1]]
    assert _cut(palette, cut_of({0: [1]})).index.tolist() == [[1, 0]]
    assert _cut(palette, cut_of({0: [2]})) is None
    assert _cut(palette, cut_of({1: [1]})).index.tolist() == [[2], [0], [1]]
