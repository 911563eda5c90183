"""The C program: every answer that it gives, with sanitizers that stop at undefined behaviour."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgepack.runners.litert_native import DTYPES
from edgepack.runtimes import building, native_library
from tests.native_program import Program, sanitized
from tests.unit.graph import flatbuffers
from tests.unit.graph.flatbuffers import constant, model, operator, subgraph, tensor
from tests.unit.graph.models import counter, reshape, two_in_three_out

SAMPLES = [np.array([[[-1, 2]], [[3, -4]], [[5, 6]]], np.float32)]
RELU = flatbuffers.relu(2)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return sanitized(tmp_path_factory.mktemp("program"))


def test_a_burst(program: Program) -> None:
    plan = {"warmup_runs": 4, "runs": 7, "min_seconds": 0, "max_seconds": 20}
    reply, outputs = program.ask(RELU, SAMPLES, **plan)
    assert (reply["warmup_runs"], len(reply["samples_us"])) == (4, 7)
    assert all(value > 0 for value in reply["samples_us"])
    assert reply["init_us"] > 0
    assert reply["first_us"] > 0
    assert 0 < reply["memory"]["model_bytes"] < reply["memory"]["peak_rss_bytes"]
    assert (reply["threads"], reply["tasks"], reply["delegate"]) == (1, 1, "xnnpack")
    assert outputs[0].tolist() == [[[0, 2]], [[3, 0]], [[5, 6]]]


def test_seconds_rule_over_runs(program: Program) -> None:
    reply, _ = program.ask(RELU, SAMPLES, runs=1, min_seconds=0.2, max_seconds=20)
    assert len(reply["samples_us"]) > 10
    reply, _ = program.ask(RELU, SAMPLES, runs=100_000_000, min_seconds=0, max_seconds=0.1)
    assert 0 < len(reply["samples_us"]) < 100_000_000


def test_a_warm_up_has_rounds(program: Program) -> None:
    plan = {"warmup_runs": 7, "runs": 1, "min_seconds": 0, "max_seconds": 20}
    reply, _ = program.ask(RELU, SAMPLES, **plan, warmup_max_seconds=20)
    assert reply["warmup_runs"] == 7  # too few to tell
    assert "settled" not in reply
    reply, _ = program.ask(RELU, SAMPLES, **{**plan, "warmup_runs": 8})
    assert reply["warmup_runs"] == 8  # no more rounds asked for
    assert reply["settled"] in (True, False)
    reply, _ = program.ask(RELU, SAMPLES, **{**plan, "warmup_runs": 500}, warmup_max_seconds=20)
    assert reply["settled"] is True
    assert reply["warmup_runs"] % 500 == 0


def test_it_runs_on_the_cores_that_it_is_given(program: Program) -> None:
    one = min(os.sched_getaffinity(0))
    reply, _ = program.ask(RELU, SAMPLES, predict=1, cores=one, threads=0)
    assert reply["threads"] == 1  # one a core, of those
    if len(both := sorted(os.sched_getaffinity(0))[:2]) == 2:
        named = ",".join(map(str, both))
        assert program.ask(RELU, SAMPLES, predict=1, cores=named, threads=0)[0]["threads"] == 2


def test_cores_that_are_not_there_are_refused(program: Program) -> None:
    missing = 1023
    if (os.cpu_count() or 1) > missing:
        pytest.skip("this machine has every core that there is")
    for cores in (f"{missing}", f"{min(os.sched_getaffinity(0))},{missing}"):
        reply, _ = program.ask(RELU, SAMPLES, predict=1, cores=cores)
        assert reply["kind"] == "cores"
        assert reply["error"].startswith("cannot run on ")


def two_steps(first: str, second: str, dtype: str = "float32") -> bytes:
    """float[1, 2] through one operator and another."""
    tensors = [tensor(name, (1, 2), dtype) for name in ("a", "b", "c")]
    steps = [operator(first, [0], [1]), operator(second, [1], [2])]
    return model(subgraph(tensors, steps, [0], [2]))


def test_times_of_operators_where_they_are_asked_for(program: Program) -> None:
    plan = {"runs": 3, "max_seconds": 20}
    reply, _ = program.ask(RELU, SAMPLES, **plan)
    assert "profile" not in reply
    reply, outputs = program.ask(RELU, SAMPLES, **plan, per_op=1)
    assert reply["profile"]["runs"] == 100
    assert [one["delegated"] for one in reply["profile"]["operators"]] == [True]
    assert all(one["us"] >= 0 for one in reply["profile"]["operators"])
    assert outputs[0].tolist() == [[[0, 2]], [[3, 0]], [[5, 6]]]
    assert "profile" not in program.ask(RELU, SAMPLES, predict=1, per_op=1)[0]


def test_operators_that_no_delegate_takes_have_the_runtimes_own_names(program: Program) -> None:
    content = two_steps("SIN", "ROUND")
    reply, _ = program.ask(content, SAMPLES, runs=3, max_seconds=20, per_op=1)
    names = [(one["name"], one["delegated"]) for one in reply["profile"]["operators"]]
    if reply["delegate"] == "none":
        assert names == [("SIN", False), ("ROUND", False)]
    else:  # it took one of them, or both
        assert any(delegated for _, delegated in names)
    assert len(names) == 2


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_every_type_comes_back_as_it_went_in(program: Program, dtype: str) -> None:
    values = np.arange(18).reshape(3, 2, 3) % (2 if dtype == "bool" else 18)
    _, (found,) = program.ask(reshape(dtype), [values.astype(dtype)], predict=1)
    assert found.dtype == dtype
    assert found.tolist() == values.astype(dtype).reshape(3, 3, 2).tolist()


A = np.array([[[1, -2]], [[3, 4]]], np.float32)
B = np.array([[[1, 2, 3]], [[4, 5, 6]]], np.int32)
RESULTS: dict[int, NDArray[Any]] = {0: A, 1: B, 2: np.maximum(A, 0), 3: -B, 4: -A}
ORDERED = (("s", 0, {"z": 1, "y": 0}, {"m": 3, "n": 2, "l": 4}),)
OTHER = subgraph([tensor("q", (1, 2)), tensor("r", (1, 2))], [operator("RELU", [0], [1])], [0], [1])


@pytest.mark.parametrize(
    ("inputs", "outputs", "signatures"),
    [
        ([0, 1], [4, 3, 2], ()),
        ([1, 0], [2, 4, 3], ()),
        ([0, 1], [4, 3, 2], ORDERED),
        ([1, 0], [2, 4, 3], ORDERED),
        ([1, 0], [2, 2, 3, 4], ()),  # one tensor twice
        ([1, 0], [2, 1, 3, 0], ()),  # inputs that are outputs
    ],
)
def test_the_order_is_the_subgraphs(
    program: Program, inputs: list[int], outputs: list[int], signatures: Any
) -> None:
    content = two_in_three_out(inputs, outputs, signatures=signatures)
    _, found = program.ask(content, [RESULTS[index] for index in inputs], predict=1)
    assert [stack.tolist() for stack in found] == [RESULTS[index].tolist() for index in outputs]


def test_the_first_subgraphs_signature_is_found(program: Program) -> None:
    tensors = [tensor("a", (1, 2)), tensor("y", (1, 2))]
    main = subgraph(tensors, [operator("NEG", [0], [1])], [0], [1])
    both = (("other", 1, {"q": 0}, {"r": 1}), ("main", 0, {"a": 0}, {"y": 1}))
    _, (found,) = program.ask(model(main, OTHER, signatures=both), [A], predict=1)
    assert found.tolist() == (-A).tolist()
    reply, _ = program.ask(model(main, OTHER, signatures=both[:1]), [A], predict=1)
    assert (reply["kind"], reply["error"]) == (
        "load", "none of the 1 signatures is the first subgraph's",
    )  # fmt: skip


def test_open_dimensions_take_the_samples_shape(program: Program) -> None:
    tensors = [tensor("a", (1, 2), signature=(-1, 2)), tensor("y", (1, 2), signature=(-1, 2))]
    content = model(subgraph(tensors, [operator("RELU", [0], [1])], [0], [1]))
    values = np.arange(-6, 6, dtype=np.float32).reshape(2, 3, 2)
    reply, (found,) = program.ask(content, [values], predict=1)
    assert reply["outputs"] == [{"dtype": "float32", "shape": [3, 2]}]
    assert found.tolist() == np.maximum(values, 0).tolist()
    reply, _ = program.ask(content, [values.reshape(2, 2, 3)], predict=1)
    assert (reply["kind"], "wants float32[1, 2], found float32[2, 3]" in reply["error"]) == (
        "inputs", True,
    )  # fmt: skip


def test_models_without_inputs_constants_and_scalars(program: Program) -> None:
    fixed = constant("c", np.array([1, -2], np.float32))
    alone = subgraph([fixed, tensor("y", (2,))], [operator("RELU", [0], [1])], [], [1])
    _, (found,) = program.ask(model(alone), [], predict=1)
    assert found.tolist() == [[1, 0]]
    tensors = [fixed, tensor("a", (2,)), tensor("y", (2,))]
    beside = subgraph(tensors, [operator("RELU", [1], [2])], [1], [2, 0])
    _, outputs = program.ask(model(beside), [np.array([[1, -1]], np.float32)], predict=1)
    assert [stack.tolist() for stack in outputs] == [[[1, 0]], [[1, -2]]]
    scalar = subgraph([tensor("a", ()), tensor("y", ())], [operator("NEG", [0], [1])], [0], [1])
    _, (found,) = program.ask(model(scalar), [np.array([1, 2], np.float32)], predict=1)
    assert found.tolist() == [-1, -2]


def test_outputs_that_the_runtime_would_leave_unwritten_are_refused(program: Program) -> None:
    def shaped(shape: tuple[int, int]) -> list[NDArray[Any]]:
        return [np.ones((1, 2, 3), np.float32), np.array([shape], np.int32)]

    tensors = [
        tensor("a", (2, 3)),
        tensor("s", (2,), "int32"),
        tensor("y", (2, 3), signature=(-1, -1)),
    ]
    content = model(subgraph(tensors, [operator("RESHAPE", [0, 1], [2])], [0, 1], [2]))
    for shape in ((3, 2), (2, 3)):
        reply, _ = program.ask(content, shaped(shape), predict=1)
        assert reply["kind"] in ("outputs", "invoke")
    where = [tensor("c", (4,), "bool"), tensor("y", (0, 1), "int64", signature=(-1, 1))]
    content = model(subgraph(where, [operator("WHERE", [0], [1])], [0], [1]))
    reply, _ = program.ask(content, [np.array([[1, 0, 1, 1]], bool)], predict=1)
    assert reply["kind"] in ("allocate", "outputs")


def test_state_is_forgotten_where_the_host_says_so(program: Program) -> None:
    ones = [np.ones((3, 1, 2), np.float32)]
    _, (found,) = program.ask(counter(), ones, predict=1, stateful=1)
    assert found.tolist() == ones[0].tolist()
    _, (kept,) = program.ask(counter(), ones, predict=1)
    assert kept[-1].tolist() > kept[0].tolist()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_thread_count_takes_effect(program: Program, threads: int) -> None:
    weights = constant("w", np.ones((64, 64), np.float32))
    tensors = [tensor("a", (1, 64)), weights, tensor("y", (1, 64))]
    options = schema.FullyConnectedOptionsT()
    dense = model(
        subgraph(tensors, [operator("FULLY_CONNECTED", [0, 1, -1], [2], options)], [0], [2])
    )
    reply, _ = program.ask(dense, [np.ones((1, 1, 64), np.float32)], predict=1, threads=threads)
    assert (reply["threads"], reply["tasks"]) == (threads, threads)


@pytest.mark.parametrize(
    ("inputs", "error"),
    [
        ([np.zeros((1, 1, 3), np.float32)], "input 0 wants float32[1, 2], found float32[1, 3]"),
        ([np.zeros((1, 1, 2), np.int8)], "input 0 wants float32[1, 2], found int8[1, 2]"),
        ([np.zeros((1, 2), np.float32)], "input 0 wants float32[1, 2], found float32[2]"),
        ([np.zeros((1, 1, 2), np.float32)] * 2, "the model has 1 inputs, found 2"),
        ([], "the model has 1 inputs, found 0"),
    ],
)
def test_inputs_that_do_not_suit(program: Program, inputs: Any, error: str) -> None:
    reply, _ = program.ask(RELU, inputs, predict=1)
    assert (reply["kind"], reply["error"]) == ("inputs", error)


def test_files_that_do_not_suit(program: Program) -> None:
    reply, _ = program.ask(RELU, SAMPLES, samples=2, predict=1)
    assert reply["error"] == "the samples have more than 16 bytes"
    reply, _ = program.ask(RELU, SAMPLES, samples=4, predict=1)
    assert reply["error"] == "the samples have fewer than 32 bytes"
    reply, _ = program.ask(RELU, SAMPLES, predict=1, inputs="/no/such")
    assert (reply["kind"], reply["error"]) == ("inputs", "no samples: No such file or directory")
    reply, _ = program.ask(RELU, SAMPLES, outputs="/no/such/file", max_seconds=1)
    assert reply["kind"] == "outputs"
    assert reply["samples_us"]  # what was measured before it
    reply, _ = program.ask(RELU, SAMPLES, outputs="/dev/full", predict=1)
    assert (reply["kind"], reply["error"]) == ("outputs", "cannot write: No space left on device")


@pytest.mark.parametrize("content", [b"", b"garbage" * 99, RELU[: len(RELU) // 2]])
def test_models_that_are_none(program: Program, content: bytes) -> None:
    reply, _ = program.ask(content, SAMPLES, predict=1)
    assert reply["kind"] == "load"


def test_an_operator_that_is_not_there(program: Program) -> None:
    custom = subgraph(
        [tensor("a", (1, 2)), tensor("y", (1, 2))], [operator("Mine", [0], [1])], [0], [1]
    )
    reply, _ = program.ask(model(custom), SAMPLES, max_seconds=1)
    assert reply["kind"] in ("load", "allocate")
    assert "samples_us" not in reply


def test_a_probe(program: Program) -> None:
    library = native_library.library(building.here())
    assert program.run(f"library={library}", "probe=1")[0] == {}
    reply, _, _ = program.run("library=/no/such.so", "probe=1")
    assert reply["kind"] == "no-runtime"
    reply, _, _ = program.run("library=libm.so.6", "probe=1")
    assert "LiteRtCreateEnvironment" in reply["error"]


@pytest.mark.parametrize(
    "argument",
    [
        "", "=", "nonsense", "threads", "threads=", "threads=-1", "threads=1025", "threads=1e3",
        "threads=99999999999999999999", "samples=0x1", "predict=2", "model=", "runs=1.5",
        "min_seconds=nan", "min_seconds=-1", "min_seconds=1e10", "min_seconds=1s", "min_seconds=",
        "input=", "input=int8", "input=int4:1", "input=:1", "input=int8:0", "input=int8:1,",
        "input=int8:1,,2", "input=int8:-1", "input=int8:99999999999", "input=int8:1x",
        "input=int8:1,1,1,1,1,1,1,1,1", "input=a-very-long-name-of-a-type:1",
        "cores=", "cores=0,", "cores=,0", "cores=-1", "cores=1024", "cores= 1", "cores=0x1",
        "per_op=2", "cores=0;1", "cores=99999999999999999999", "warmup_max_seconds=-1",
        'quote"and\\backslash', "\x01\xff", "%s%n%x",
    ],
)  # fmt: skip
def test_arguments_that_mean_nothing(program: Program, argument: str) -> None:
    reply, code, _ = program.run("library=x", argument)
    assert (reply["kind"], code) == ("request", 1)
    assert reply["error"].startswith("the argument ")


def test_what_is_missing_is_named(program: Program) -> None:
    assert program.run()[0]["error"] == "library=... is missing"
    assert "model=..." in program.run("library=x", "samples=1")[0]["error"]
    files = ("library=x", "model=x", "inputs=x", "outputs=x")
    assert program.run(*files)[0] == {"kind": "inputs", "error": "at least one sample is needed"}
    reply, _, _ = program.run(
        "library=" + str(native_library.library(building.here())), *files[1:],
        "samples=1000000000", "input=complex64:2147483647,2147483647,2147483647",
    )  # fmt: skip
    assert reply["error"] == "input 0 is too large"
