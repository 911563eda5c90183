"""Batches, augmentation, judging and checkpoints: what of a training needs no TensorFlow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import DataError, SpecError
from edgepack.model.rows import Batch
from edgepack.model.training import batches as module
from edgepack.model.training import checkpoint, hooks
from edgepack.model.training.augment import flip_shift, noise, shift
from edgepack.model.training.batches import Batches, split
from edgepack.model.training.judge import Best
from edgepack.spec.steps import Training
from tests.sets import data_of


def counted(folder, rows=20, **more):
    """Samples that are their own number."""
    x = np.arange(rows, dtype=np.float32).reshape(rows, 1)
    return data_of(folder, x=x, y=np.arange(rows), **more)


def numbers(batch: Batch) -> list[int]:
    assert batch.y is not None
    np.testing.assert_array_equal(batch.x[0][:, 0], batch.y)
    return [int(value) for value in batch.y]


def test_some_are_held_back_and_none_is_in_both():
    kept, held = split(100, 0.2, 3, "set")
    assert len(held) == 20
    assert sorted([*kept, *held]) == list(range(100))
    assert list(held) != list(split(100, 0.2, 4, "set")[1])
    assert len(split(100, 0.0, 3, "set")[1]) == 0


def test_too_few_to_hold_some_back():
    with pytest.raises(DataError, match="1 samples are too few"):
        split(1, 0.1, 0, "set")


@pytest.mark.parametrize("in_memory", [True, False])
def test_an_epoch_is_every_sample_once_in_an_order_of_its_own(tmp_path, monkeypatch, in_memory):
    if not in_memory:
        monkeypatch.setattr(module, "HELD_IN_MEMORY", 0)
    batches = Batches(counted(tmp_path), 5, 1, ("float32",))
    rows = np.arange(20)
    first, second, again = (
        [numbers(batch) for batch in batches.epoch(rows, epoch)] for epoch in (0, 1, 0)
    )
    assert sorted(n for batch in first for n in batch) == list(range(20))
    assert [len(batch) for batch in first] == [5] * 4
    assert [sorted(b) for b in first] == [sorted(b) for b in again]
    assert [sorted(b) for b in first] != [sorted(b) for b in second]


def test_a_batch_that_is_not_full_is_left_out_unless_it_is_the_only_one(tmp_path):
    batches = Batches(counted(tmp_path), 8, 1, ("float32",))
    assert [len(b.x[0]) for b in batches.epoch(np.arange(20), 0)] == [8, 8]
    assert [len(b.x[0]) for b in batches.epoch(np.arange(3), 0)] == [3]
    assert batches.count(3) == 1


def test_judged_batches_hold_every_row_and_are_not_augmented(tmp_path):
    def doubled(batch, rng):
        return Batch(x=(2 * batch.x[0],), y=2 * batch.y)

    batches = Batches(counted(tmp_path, rows=150), 8, 1, ("float64",), doubled)
    rows = np.arange(3, 150)
    plain = list(batches.plain(rows))
    assert [n for batch in plain for n in numbers(batch)] == list(rows)
    assert plain[0].x[0].dtype == np.float64
    assert all(n % 2 == 0 for batch in batches.epoch(rows, 0) for n in numbers(batch))


@given(st.integers(0, 2**32), st.integers(8, 40), st.integers(8, 40))
def test_a_shifted_image_is_the_reflected_one_cut_out(seed, height, width):
    rng = np.random.default_rng(seed)
    images = rng.random((3, height, width, 2))
    for change, ways in ((flip_shift, (1, -1)), (shift, (1,))):
        moved = change(images, np.random.default_rng(seed))
        assert moved.shape == images.shape
        for image, found in zip(images, moved, strict=True):
            down, aside = min(4, height // 8), min(4, width // 8)
            wide = np.pad(image, ((down, down), (aside, aside), (0, 0)), "reflect")
            cuts = [
                wide[y : y + height, x : x + width][:, ::way]
                for y in range(2 * down + 1)
                for x in range(2 * aside + 1)
                for way in ways
            ]
            assert any(np.array_equal(cut, found) for cut in cuts)


def test_augmentation_moves_something_and_the_same_each_time():
    images = np.random.default_rng(0).random((16, 32, 32, 3), np.float32)
    for change in (flip_shift, shift, noise):
        first, again = (change(images, np.random.default_rng(5)) for _ in range(2))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, images)
        assert first.dtype == images.dtype


def test_a_signal_is_shifted_along_time():
    signal = np.tile(np.arange(64.0)[:, None], (200, 1, 2)).reshape(200, 64, 2)
    found = {int(moved[30, 0] - 30) for moved in shift(signal, np.random.default_rng(0))}
    assert found == set(range(-4, 5))


@pytest.mark.parametrize(
    ("augment", "x", "y", "says"),
    [
        ("flip-shift", np.zeros((4, 6), np.float32), None, "is for images"),
        ("shift", np.zeros((4, 6), np.float32), None, "images or signals"),
        ("shift", np.zeros((4, 8, 8, 1), np.float32), np.zeros((4, 8, 8)), "would not move"),
    ],
)
def test_augmentation_that_does_not_suit_is_refused(tmp_path, augment, x, y, says):
    training = Training(epochs=1, augment=augment)
    with pytest.raises(DataError, match=says):
        hooks(training, data_of(tmp_path, x=x, y=y))


def test_only_the_inputs_that_suit_are_augmented(tmp_path):
    data = data_of(tmp_path, a=np.zeros((4, 3)), b=np.random.default_rng(0).random((4, 16, 16, 1)))
    augment = hooks(Training(epochs=1, augment="flip-shift"), data).augment
    assert augment is not None
    batch = next(data.batches(4))
    changed = augment(batch, np.random.default_rng(0))
    np.testing.assert_array_equal(changed.x[0], batch.x[0])
    assert not np.array_equal(changed.x[1], batch.x[1])


def test_a_metric_that_pixels_do_not_suit_is_refused(tmp_path):
    data = data_of(tmp_path, x=np.zeros((4, 8, 8, 1)), y=np.zeros((4, 8, 8)))
    with pytest.raises(DataError, match="one class a sample"):
        hooks(Training(epochs=1, metric="top1"), data)


def test_a_users_function_needs_to_be_allowed_and_there(tmp_path):
    data = counted(tmp_path)
    training = Training(epochs=1, loss="own.py:loss")
    with pytest.raises(SpecError, match="not allowed by default"):
        hooks(training, data, tmp_path)
    with pytest.raises(SpecError, match="no such Python file"):
        hooks(training, data, tmp_path, code=True)
    (tmp_path / "own.py").write_text("def other(): pass")
    with pytest.raises(SpecError, match="no function 'loss'"):
        hooks(training, data, tmp_path, code=True)


def test_a_users_file_is_part_of_what_a_training_is(tmp_path):
    data = counted(tmp_path)
    training = Training(epochs=1, loss="own.py:loss")
    (tmp_path / "own.py").write_text("def loss(y, p): return p")
    one = hooks(training, data, tmp_path, code=True).identity
    (tmp_path / "own.py").write_text("def loss(y, p): return 2 * p")
    assert hooks(training, data, tmp_path, code=True).identity != one


def test_a_users_augmentation_that_fails_or_changes_shapes_is_his_to_mend(tmp_path):
    data = counted(tmp_path)
    (tmp_path / "own.py").write_text(
        "def fails(x, y, rng): raise ValueError('no good')\n"
        "def cuts(x, y, rng): return x[:, :0], y\n"
    )
    for name, says in (("fails", "fails failed: ValueError: no good"), ("cuts", "same shapes")):
        training = Training(epochs=1, augment=f"own.py:{name}")
        augment = hooks(training, data, tmp_path, code=True).augment
        assert augment is not None
        with pytest.raises(SpecError) as caught:
            augment(next(data.batches(4)), np.random.default_rng(0))
        assert says in caught.value.message + caught.value.hint


@pytest.mark.parametrize(("lower", "epoch"), [(True, 1), (False, 2)])
def test_the_best_is_the_first_of_the_best(lower, epoch):
    best = Best(lower=lower, patience=2)
    for place, value in enumerate([2.0, 1.0, 3.0, 1.0, float("nan"), 3.0]):
        best.see(value, place, lambda place=place: {"w": np.array(place)})
    assert best.epoch == epoch
    assert best.arrays["w"] == epoch
    assert [best.is_over(epoch + n) for n in (0, 1, 2)] == [False, False, True]
    copy = Best(lower=lower, patience=2)
    copy.restore(best.state())
    assert (copy.value, copy.epoch, copy.arrays) == (best.value, best.epoch, best.arrays)


def test_without_patience_or_anything_judged_it_is_never_over():
    best = Best(lower=True, patience=0)
    best.see(1.0, 0, dict)
    assert not best.is_over(100)
    assert not Best(lower=True, patience=1).is_over(100)


@given(st.binary(min_size=1, max_size=64), st.integers(0, 10_000))
def test_a_damaged_checkpoint_is_as_good_as_none(tmp_path_factory, junk, place):
    path = tmp_path_factory.mktemp("c") / "step.ckpt"
    arrays = {"model.0": np.arange(300.0), "losses": np.array([0.5])}
    checkpoint.save(path, arrays)
    whole = path.read_bytes()
    at = place % len(whole)
    path.write_bytes(whole[:at] + junk + whole[at + len(junk) :])
    found = checkpoint.load(path)
    if found is not None:
        assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
    path.write_bytes(whole[:at])
    assert checkpoint.load(path) is None


def test_each_training_has_a_file_of_its_own_and_discard_removes_them_alone(tmp_path):
    asked = tmp_path / "step.ckpt"
    words = [checkpoint.fingerprint([word], {"w": np.ones(2)}) for word in "ab"]
    files = [checkpoint.place(asked, word) for word in words]
    assert len(set(files)) == 2
    assert checkpoint.fingerprint(["a"], {"w": np.zeros(2)}) not in words
    other = tmp_path / "step-2.ckpt"
    for file in (*files, other):
        checkpoint.save(file, {"a": np.zeros(1)})
    checkpoint.discard(asked)
    assert list(tmp_path.iterdir()) == [other]
