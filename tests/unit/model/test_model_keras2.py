import json
from pathlib import Path

import pytest

from edgepack.errors import ModelError
from edgepack.model.keras2 import rewrite, written_by_keras2
from edgepack.model.keras2_ops import function_of, tensor
from edgepack.model.specs import check_names, fixed

WHERE = Path("m.h5")


def graph(*layers, outputs):
    start = {
        "class_name": "InputLayer",
        "name": "x",
        "config": {"name": "x", "batch_input_shape": [None, 4, 4, 2], "ragged": False},
        "inbound_nodes": [],
    }
    return {
        "class_name": "Functional",
        "config": {
            "name": "m",
            "layers": [start, *layers],
            "input_layers": [["x", 0, 0]],
            "output_layers": [[outputs, 0, 0]],
        },
    }


def call(function, *args, class_name="TFOpLambda", **kwargs):
    config = {"name": "f", "function": function}
    node = [*(args or ("x", 0, 0)), kwargs]
    return {"class_name": class_name, "name": "f", "config": config, "inbound_nodes": [node]}


def made(*layers, outputs="f"):
    return rewrite(graph(*layers, outputs=outputs), WHERE)["config"]["layers"][-1]


X = tensor("x", 0, 0)


@pytest.mark.parametrize(
    ("layer", "class_name", "config", "args"),
    [
        (call("__operators__.add", y=["x", 0, 0]), "Add", {}, [[X, X]]),
        (call("math.multiply", y=0.5), "Multiply", {}, [X, 0.5]),
        (
            call("math.subtract", "_CONSTANT_VALUE", -1, 2.0, y=["x", 0, 0]),
            "Subtract",
            {},
            [2.0, X],
        ),
        (call("math.truediv", y=2.0), "Divide", {}, [X, 2.0]),
        (call("linalg.matmul", b=["x", 0, 0], transpose_a=False), "Matmul", {}, [X, X]),
        (call("nn.relu"), "Activation", {"activation": "relu"}, [X]),
        (call("nn.swish", beta=1.0), "Activation", {"activation": "silu"}, [X]),
        (call("nn.softmax", axis=1), "Softmax", {"axis": 1}, [X]),
        (call("nn.softmax", axis=-1), "Activation", {"activation": "softmax"}, [X]),
        (call("nn.leaky_relu"), "LeakyReLU", {"negative_slope": 0.2}, [X]),
        (call("math.sqrt"), "Sqrt", {}, [X]),
        (call("math.reduce_mean", axis=[1, 2]), "GlobalAveragePooling2D", {"keepdims": False}, [X]),
        (call("math.reduce_sum", axis=1, keepdims=True), "Sum", {"axis": 1, "keepdims": True}, [X]),
        (call("reshape", shape=[-1, 32]), "Reshape", {"target_shape": [32]}, [X]),
        (call("transpose", perm=[0, 2, 1, 3]), "Permute", {"dims": [2, 1, 3]}, [X]),
        (call("squeeze", axis=1), "Squeeze", {"axis": 1}, [X]),
        (call("expand_dims", axis=1), "ExpandDims", {"axis": 1}, [X]),
        (call("cast", dtype="float32"), "Cast", {"dtype": "float32"}, [X]),
        (
            call("clip_by_value", clip_value_min=0, clip_value_max=6),
            "Clip",
            {"x_min": 0, "x_max": 6},
            [X],
        ),
        (call("identity"), "Identity", {}, [X]),
        (
            call("__operators__.getitem", slice_spec=[{"start": None, "stop": 2, "step": 1}, 0]),
            "GetItem",
            {},
            [X, [{"class_name": "__slice__", "config": {"start": None, "stop": 2, "step": 1}}, 0]],
        ),
        (
            call("__operators__.getitem", slice_spec={"class_name": "__ellipsis__", "config": {}}),
            "GetItem",
            {},
            [X, {"class_name": "__ellipsis__", "config": {}}],
        ),
        (call("__operators__.getitem", slice_spec={"value": 1}), "GetItem", {}, [X, 1]),
    ],
)
def test_functions_become_layers_or_operations(layer, class_name, config, args):
    found = made(layer)
    assert found["class_name"] == class_name
    assert found["config"] == {"name": "f", **config}
    assert found["inbound_nodes"] == [{"args": args, "kwargs": {}}]


def test_lists_of_tensors():
    concat = {
        "class_name": "TFOpLambda",
        "name": "f",
        "config": {"name": "f", "function": "concat"},
        "inbound_nodes": [[["x", 0, 0, {"axis": -1}], ["x", 0, 0, {"axis": -1}]]],
    }
    assert made(concat)["class_name"] == "Concatenate"
    added = {**concat, "config": {"name": "f", "function": "math.add_n"}}
    added["inbound_nodes"] = [[["x", 0, 0, {}], ["x", 0, 0, {}]]]
    assert made(added)["inbound_nodes"][0]["args"] == [[X, X]]


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (call("signal.fft"), "calls tf.signal.fft, which has no Keras 3 counterpart"),
        (call("reshape", shape=[-1, ["x", 0, 0]]), "calls tf.reshape"),
        (call("transpose", perm=[1, 0]), "calls tf.transpose"),
        (call("nn.relu", odd=3), "with odd"),
        ({**call("nn.relu"), "inbound_nodes": [["x", 0, 0, {}]] * 2}, "is called 2 times"),
    ],
)
def test_functions_without_a_counterpart(layer, said):
    with pytest.raises(ModelError, match=said):
        made(layer)


def test_operators_of_the_oldest_files():
    config = {"name": "f", "node_def": 'name: "mul"\nop: "Mul"', "constants": {"1": 2.5}}
    old = {
        "class_name": "TensorFlowOpLayer",
        "name": "f",
        "config": config,
        "inbound_nodes": [[["x", 0, 0, {}]]],
    }
    found = made(old)
    assert (found["class_name"], found["inbound_nodes"][0]["args"]) == ("Multiply", [X, 2.5])
    assert function_of({**old, "config": {"node_def": {"op": "Mean"}}}) == "reduce_mean"
    assert function_of({**old, "config": {"node_def": "?"}}) == ""


def plain(class_name, **config):
    return {
        "class_name": class_name,
        "name": "f",
        "config": {"name": "f", **config},
        "inbound_nodes": [[["x", 0, 0, {"mask": None, "training": False}]]],
    }


def test_arguments_that_are_gone():
    found = made(plain("DepthwiseConv2D", groups=1, kernel_initializer=None, kernel_size=3))
    assert found["config"] == {"name": "f", "kernel_size": 3}
    assert found["inbound_nodes"] == [{"args": [X], "kwargs": {"training": False}}]
    assert made(plain("Conv2D", groups=2))["config"]["groups"] == 2
    assert made(plain("Embedding", input_dim=5, input_length=3))["config"]["input_dim"] == 5
    assert made(plain("CuDNNLSTM", time_major=False))["class_name"] == "LSTM"
    with pytest.raises(ModelError, match="time_major = True"):
        made(plain("LSTM", time_major=True))


def test_old_forms_of_values():
    policy = {"class_name": "Policy", "config": {"name": "mixed_float16"}}
    found = made(
        plain(
            "BatchNormalization",
            axis=[3],
            dtype=policy,
            gamma_initializer={"class_name": "Ones", "config": {"dtype": "float32"}},
            beta_regularizer={"class_name": "L2", "config": {"l2": 0.1}},
            max_value={"type": "ndarray", "value": 6.0},
            other={"class_name": "Odd"},
        )
    )["config"]
    assert found["axis"] == 3
    assert found["dtype"] == "mixed_float16"
    assert found["max_value"] == 6.0
    assert found["gamma_initializer"]["module"] == "keras.initializers"
    assert found["gamma_initializer"]["config"] == {}
    assert found["beta_regularizer"]["module"] == "keras.regularizers"
    assert found["other"] == {"class_name": "Odd"}


def test_wrapped_layers_and_cells():
    lstm = {"class_name": "LSTM", "config": {"name": "l", "time_major": False}}
    assert "time_major" not in made(plain("Bidirectional", layer=lstm))["config"]["layer"]["config"]
    stack = {"class_name": "StackedRNNCells", "config": {"cells": [lstm]}}
    inner = made(plain("RNN", cell=stack))["config"]["cell"]["config"]["cells"][0]
    assert inner["module"] == "keras.layers"


def test_sequential_gets_its_input():
    dense = {"class_name": "Dense", "config": {"name": "d", "batch_input_shape": [None, 4]}}
    for config in ([dense], {"name": "s", "layers": [dense]}):
        layers = rewrite({"class_name": "Sequential", "config": config}, WHERE)["config"]["layers"]
        assert [layer["class_name"] for layer in layers] == ["InputLayer", "Dense"]
        assert layers[0]["config"]["batch_shape"] == [None, 4]


def test_custom_layers_keep_their_names():
    found = made({**plain("Mine"), "registered_name": "pack>Mine"})
    assert (found["module"], found["class_name"]) == (None, "Mine")
    assert found["registered_name"] == "pack>Mine"
    assert made(plain("pack>Mine"))["registered_name"] == "pack>Mine"


def test_nested_models_count_calls_from_nought():
    inner = graph(outputs="x")["config"]
    sequential = [{"class_name": "Dense", "config": {"name": "d", "batch_input_shape": [None]}}]
    for class_name, config, end in (("Functional", inner, 1), ("Sequential", sequential, 0)):
        model = {
            "class_name": class_name,
            "name": "n",
            "config": config,
            "inbound_nodes": [[["x", 0, 0, {}]]],
        }
        after = {**plain("ReLU"), "inbound_nodes": [[["n", 1, 0, {}]]]}
        old = graph(model, after, outputs="f")
        old["config"]["output_layers"] = {"a": ["n", 1, 0]}
        found = rewrite(old, WHERE)["config"]
        history = found["layers"][-1]["inbound_nodes"][0]["args"][0]["config"]["keras_history"]
        assert history == ["n", 0, 0]
        assert found["output_layers"] == {"a": ["n", end, 0]}


def test_nodes_in_the_new_form_pass():
    node = {"args": [["x", 0, 0]], "kwargs": {"scale": {"a": 1}}}
    found = made({**plain("ReLU"), "inbound_nodes": [node]})
    assert found["inbound_nodes"] == [{"args": [X], "kwargs": {"scale": {"a": 1}}}]


def test_what_cannot_be_read():
    with pytest.raises(ModelError, match="subclassed"):
        rewrite({"class_name": "Model", "config": {}}, WHERE)
    broken = json.loads(json.dumps(graph(outputs="x")))
    del broken["config"]["input_layers"]
    with pytest.raises(ModelError, match="damaged: KeyError"):
        rewrite(broken, WHERE)


@pytest.mark.parametrize(
    ("version", "old"), [("2.4.0", True), (b"2.13", True), (None, True), ("3.1.0", False)]
)
def test_versions(version, old):
    assert written_by_keras2(version) is old


def test_sizes_are_filled_and_checked():
    assert fixed("a", (None, 3), "float32", {}, WHERE).shape == (1, 3)
    assert fixed("a", (), "float32", {}, WHERE).shape == ()
    assert fixed("a", (None, None), "float32", {"a": (1, 5)}, WHERE).shape == (1, 5)
    assert fixed("a", (None, None), "float32", {"a": (5,)}, WHERE).shape == (1, 5)
    assert fixed("a", None, "float32", {"a": (1, 5)}, WHERE).shape == (1, 5)
    for shape in ((None, None), None):
        with pytest.raises(ModelError, match="no fixed shape") as error:
            fixed("a", shape, "float32", {}, WHERE)
        assert "--shape a=" in error.value.hint
    for given in ((1, 4), (2, 3), (1, 2, 3), (), (1, 0)):
        with pytest.raises(ModelError, match="cannot be"):
            fixed("a", (None, 3), "float32", {"a": given}, WHERE)
    check_names({"a": (1,)}, ["a"], WHERE)
    with pytest.raises(ModelError, match="no input 'b'"):
        check_names({"b": (1,)}, ["a"], WHERE)


def test_a_trusted_lambda_is_brought_up_to_date():
    found = made(
        plain(
            "Lambda",
            function=["code", None, None],
            function_type="lambda",
            module="m",
            output_shape=[4],
            output_shape_type="raw",
            batch_input_shape=[None, 4],
        )
    )
    parts = {"code": "code", "defaults": None, "closure": None}
    assert found["config"] == {
        "name": "f",
        "function": {"class_name": "__lambda__", "config": parts},
        "output_shape": [4],
    }
    assert made(plain("Lambda", function="tanh"))["config"]["function"] == "tanh"
