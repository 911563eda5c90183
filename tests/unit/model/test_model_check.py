import numpy as np
import pytest

from edgepack.errors import DataError
from edgepack.model.check import check_against
from edgepack.model.data import open_data
from edgepack.records import TensorSpec
from edgepack.spec.data import Dataset, Preprocess


def spec(*shape, dtype="float32", name="t"):
    return TensorSpec(name=name, shape=(1, *shape), dtype=dtype)


@pytest.fixture
def data(tmp_path):
    def opened(x=None, y=None, dtype="float32"):
        arrays = {"x": np.ones((4, 3)) if x is None else np.asarray(x)}
        if y is not None:
            arrays["y"] = np.asarray(y)
        np.savez(tmp_path / "a.npz", **arrays)
        return open_data(
            Dataset(
                id="set",
                source="npz",
                folder=str(tmp_path),
                path="a.npz",
                y="y" if y is not None else None,
                preprocess=Preprocess(dtype=dtype),
            )
        )

    return opened


def test_what_suits(data):
    check_against(data(), [spec(3)], [spec(2)], None)
    check_against(data(), [spec(3)], [spec(3)], "mse")
    check_against(data(y=[0, 1, 2, 0]), [spec(3)], [spec(3)], "top1")
    check_against(data(y=np.eye(4)), [spec(3)], [spec(4)], "top5")
    check_against(data(y=[0, 1, 1, 0]), [spec(3)], [spec(1)], "auc")
    check_against(data(y=np.eye(4)), [spec(3)], [spec(4)], "auc")
    check_against(data(y=np.ones((4, 2))), [spec(3)], [spec(2)], "mae")
    check_against(data(dtype="uint8"), [spec(3, dtype="int32")], [spec(2)], None)
    check_against(data(dtype="uint8"), [spec(3, dtype="bfloat16")], [spec(2)], None)
    check_against(data(), [spec(3, dtype="float16")], [spec(2)], None)


@pytest.mark.parametrize(
    ("given", "inputs", "outputs", "metric", "said"),
    [
        ({}, [spec(3), spec(3)], [spec(2)], None, "has 1 inputs, the model takes 2"),
        ({}, [spec(4, 1)], [spec(2)], None, "samples are 3, the model's 't' takes 4×1"),
        ({}, [spec(3, dtype="int8")], [spec(2)], None, "are float32, .* takes int8"),
        ({"dtype": "int32"}, [spec(3, dtype="uint8")], [spec(2)], None, "takes uint8"),
        ({}, [spec(3)], [spec(2)], "top1", "top1 needs labels"),
        ({}, [spec(3)], [spec(2)], "auc", "auc needs labels"),
        ({}, [spec(3)], [spec(2)], "mse", "are 2 and 3"),
        ({"y": [0, 1, 2, 3]}, [spec(3)], [spec(3)], "top1", "from 0 to 3, .* 3 classes"),
        ({"y": [-1, 1, 2, 0]}, [spec(3)], [spec(3)], "top1", "from -1 to 2"),
        ({"y": [0.5, 1, 2, 0]}, [spec(3)], [spec(3)], "top1", "whole numbers"),
        ({"y": np.eye(4)}, [spec(3)], [spec(3)], "top1", "one-hot labels of 4 classes"),
        ({"y": [1, 1, 1, 1]}, [spec(3)], [spec(1)], "auc", "two classes"),
        ({"y": [1, 1, 1, 1]}, [spec(3)], [spec(2)], "mse", "labels are single numbers"),
    ],
)
def test_what_does_not(data, given, inputs, outputs, metric, said):
    with pytest.raises(DataError, match=said):
        check_against(data(**given), inputs, outputs, metric)


def test_binary_output_has_two_classes(data):
    check_against(data(y=[0, 1, 1, 0]), [spec(3)], [spec(1)], "top1")
