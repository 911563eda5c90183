import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import DataError
from edgepack.model.metrics import resolve
from edgepack.records import TensorSpec


def out(*shape):
    return [TensorSpec(name="y", shape=(1, *shape), dtype="float32")]


def scored(name, outputs, y, **rest):
    metric = resolve(name, out(outputs.shape[-1]), True, **rest)
    for start in range(0, len(y), 3):
        metric.update([outputs[start : start + 3]], y[start : start + 3])
    return metric.compute()


@given(st.integers(1, 30), st.integers(6, 12), st.integers(0, 9))
def test_top_k_counts_labels_among_the_k_best(n, classes, seed):
    rng = np.random.default_rng(seed)
    outputs, y = rng.random((n, classes)), rng.integers(0, classes, n)
    rank = (outputs > outputs[np.arange(n), y][:, None]).sum(1)
    assert scored("top1", outputs, y) == pytest.approx((rank < 1).mean())
    assert scored("top5", outputs, y) == pytest.approx((rank < 5).mean())
    assert scored("top1", outputs, np.eye(classes)[y]) == pytest.approx((rank < 1).mean())


def test_top1_of_one_output_is_a_threshold():
    assert scored("top1", np.array([[0.9], [0.2], [0.7]]), np.array([1, 0, 0])) == 2 / 3


def test_auc_binary_is_the_share_of_ordered_pairs():
    outputs, y = np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])
    assert scored("auc", outputs[:, None], y) == 0.75
    assert scored("auc", np.stack([1 - outputs, outputs], 1), y) == 0.75
    assert scored("auc", outputs[:, None], np.ones(4)) is None


def test_auc_of_several_classes_is_the_mean_of_one_against_the_rest():
    y = np.array([0, 1, 2, 2])
    assert scored("auc", np.eye(3)[y], y) == 1.0
    assert scored("auc", np.eye(3)[[0, 0]], np.array([1, 1])) is None


@given(st.integers(1, 20), st.integers(0, 9))
def test_errors_are_means_over_all_values(n, seed):
    rng = np.random.default_rng(seed)
    outputs, y = rng.random((n, 3)), rng.random((n, 3))
    assert scored("mse", outputs, y) == pytest.approx(((outputs - y) ** 2).mean())
    assert scored("mae", outputs, y) == pytest.approx(np.abs(outputs - y).mean())


def test_what_is_inferred():
    def name(outputs, has, labels=None):
        return resolve(
            None, outputs, has, labels=None if labels is None else np.asarray(labels)
        ).name

    assert name(out(10), False) == "mse"
    assert name(out(10), True) == "top1"
    assert name(out(1), True) == "auc"
    assert name(out(), True) == "auc"
    assert name(out(3), True, [0, 2]) == "top1"
    assert name(out(3), True, [0.0, 2.0]) == "top1"
    assert name(out(2), True, [[0, 1], [1, 0]]) == "top1"
    assert name(out(2), True, [[0.5, 1], [1, 0]]) == "mse"
    assert name(out(2), True, [[1, 1], [1, 0]]) == "mse"
    assert name(out(1), True, [0, 1]) == "auc"
    assert name(out(1), True, [0.5, 3]) == "mse"


def test_own_function(tmp_path):
    (tmp_path / "m.py").write_text(
        "def worst(y, outputs):\n    return -abs(outputs[0][:, 0] - y).max()\n"
        "def broken(y, outputs):\n    return 1 / 0\n"
        "def nan(y, outputs):\n    return float('nan')\n"
    )
    outputs, y = np.array([[1.0], [2.0], [5.0], [1.0]]), np.array([1.0, 1, 1, 1])
    rest = {"allow_code": True, "folder": tmp_path}
    assert scored("m.py:worst", outputs, y, **rest) == -4
    assert scored("m.py:nan", outputs, y, **rest) is None
    with pytest.raises(DataError, match="ZeroDivisionError"):
        scored("m.py:broken", outputs, y, **rest)
    with pytest.raises(DataError, match="not allowed"):
        scored("m.py:worst", outputs, y)


def test_errors_are_said():
    with pytest.raises(DataError) as error:
        resolve("top2", out(3), True)
    assert "did you mean" in error.value.hint
    with pytest.raises(DataError) as error:
        resolve("zzz", out(3), True)
    assert "known: top1" in error.value.hint
    metric = resolve("top1", out(3), True)
    assert metric.compute() is None
    with pytest.raises(DataError, match="needs labels"):
        metric.update([np.ones((2, 3))], None)
    with pytest.raises(DataError, match="2 outputs for 1"):
        metric.update([np.ones((2, 3))], np.ones(1))
    with pytest.raises(DataError, match="3 values for labels of 2"):
        resolve("mse", out(3), True).update([np.ones((2, 3))], np.ones((2, 2)))
