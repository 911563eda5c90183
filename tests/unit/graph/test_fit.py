"""Fit: each constraint broken alone, with its numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgepack.graph import fit as fitting
from edgepack.graph.fit import CONSTRAINTS, fit
from edgepack.graph.overhead import resource_bytes, runtime_ram_bytes
from edgepack.graph.parse import parse
from edgepack.graph.types import Graph
from edgepack.runtimes.tables import Row, Runtime
from edgepack.spec.target import Memory, Target
from tests.unit.graph.flatbuffers import constant, convolution, model, operator, subgraph, tensor

KIB = 1024


def board(flash=None, ram=None, kind="mcu", arch="armv7e-m") -> Target:
    return Target(
        id="board",
        name="Board",
        kind=kind,
        arch=arch,
        runtimes=("small",),
        memory=Memory(flash_kib=flash, ram_kib=ram),
    )


def runtime(**fields) -> Runtime:
    fields = {"id": "small", "name": "Small", "rows": (), **fields}
    return Runtime(package="small", version="1", description="", **fields)


def graph_of(*tensors, operators=(), outputs=(1,)) -> Graph:
    return parse(model(subgraph(list(tensors), list(operators), [0], list(outputs))), "m")


CONV = parse(convolution(), "m")


def only(found) -> str:
    (reason,) = found.reasons
    assert not found.ok
    return reason


def test_a_model_with_room_fits():
    found = fit(CONV, board(flash=1000, ram=1000), [runtime()])
    assert (found.ok, found.reasons) == (True, ())
    assert fit(CONV, board(), [runtime()]).ok


def test_flash_is_the_file_and_the_code():
    found = fit(CONV, board(flash=10.0), [runtime(code_bytes=10 * KIB)])
    size = f"{CONV.size_bytes / KIB:.1f}"
    assert only(found) == (
        f"needs {(CONV.size_bytes + 10 * KIB) / KIB:.1f} KiB of flash "
        f"(model {size} + runtime 10.0), board has 10.0"
    )


def test_memory_that_is_just_enough_fits():
    exact = (CONV.size_bytes + KIB) / KIB
    assert fit(CONV, board(flash=exact), [runtime(code_bytes=KIB)]).ok
    assert not fit(CONV, board(flash=exact), [runtime(code_bytes=KIB + 1)]).ok


def test_ram_is_the_arena_and_the_runtime():
    found = fit(CONV, board(ram=48.5), [runtime(ram_bytes=48 * KIB + 512)])
    assert only(found) == "needs 48.9 KiB of RAM (arena 0.4 + runtime 48.5), board has 48.5"


def test_on_linux_the_model_lies_in_ram_too():
    found = fit(CONV, board(ram=1.0, kind="linux", arch="aarch64"), [runtime()])
    assert re.fullmatch(
        r"needs \S+ KiB of RAM \(arena 0\.4 \+ runtime 0\.0 \+ model \S+\), board has 1\.0",
        only(found),
    )


def test_an_architecture_without_the_runtime():
    found = fit(CONV, board(arch="riscv32"), [runtime(arches=("armv7e-m",))])
    assert only(found) == "Small does not exist for riscv32, the architecture of board"
    assert fit(CONV, board(), [runtime(arches=("armv7e-m",))]).ok


def custom(name):
    return graph_of(tensor("x", (1,)), tensor("y", (1,)), operators=[operator(name, [0], [1])])


def test_flex_and_custom_operators():
    assert only(fit(custom("FlexAdd"), board(), [runtime(custom_ops=True)])) == (
        "needs TensorFlow itself for FlexAdd, and Small does not contain it"
    )
    assert only(fit(custom("ethos-u"), board(), [runtime(flex=True)])) == (
        "Small knows no custom operators, and the model has ethos-u"
    )
    assert fit(custom("FlexAdd"), board(), [runtime(flex=True)]).ok
    assert fit(custom("ethos-u"), board(), [runtime(custom_ops=True)]).ok


def test_an_operator_that_the_runtime_lacks():
    found = fit(CONV, board(), [runtime(operators=frozenset({"ADD"}))])
    assert only(found) == "Small has no operator CONV_2D (1 in the model, first 'out')"
    assert fit(CONV, board(), [runtime(operators=frozenset({"CONV_2D"}))]).ok


def row(verdict, **fields):
    plain = {
        "op": "CONV_2D",
        "activations": "int8",
        "weights": "int8",
        "granularity": "per-channel",
    }
    return Row(verdict=verdict, **{**plain, **fields})


def test_what_the_table_says_of_a_form():
    wrong = fit(CONV, board(), [runtime(rows=(row("wrong"),))])
    assert only(wrong) == (
        "Small computes wrong numbers for CONV_2D with int8 activations and per-channel int8 "
        "weights (1 in the model, first 'out')"
    )
    refused = fit(CONV, board(), [runtime(rows=(row("refused"),))])
    assert only(refused).startswith("Small refuses CONV_2D with int8 activations")
    for fine in (row("exact"), row("tolerance"), row("wrong", granularity="per-tensor")):
        assert fit(CONV, board(), [runtime(rows=(fine,))]).ok


def test_forms_without_weights_or_scales_are_named_plainly():
    add = graph_of(tensor("x", (1,)), tensor("y", (1,)), operators=[operator("ABS", [0], [1])])
    plain = row("refused", op="ABS", activations="float32", weights="none", granularity="none")
    assert "refuses ABS with float32 activations (1" in only(
        fit(add, board(), [runtime(rows=(plain,))])
    )
    dense = graph_of(
        tensor("x", (1, 2)),
        constant("w", np.ones((3, 2), np.float32)),
        tensor("y", (1, 3)),
        operators=[operator("FULLY_CONNECTED", [0, 1, -1], [2])],
        outputs=(2,),
    )
    floats = row(
        "wrong",
        op="FULLY_CONNECTED",
        activations="float32",
        weights="float32",
        granularity="none",
    )
    assert "float32 activations and float32 weights (1" in only(
        fit(dense, board(), [runtime(rows=(floats,))])
    )


def test_sparse_weights_need_an_operator_that_unpacks_them():
    sparse = graph_of(
        tensor("x", (1,)), tensor("y", (1,)), operators=[operator("DENSIFY", [0], [1])]
    )
    assert only(fit(sparse, board(), [runtime(operators=frozenset())])) == (
        "Small cannot unpack sparse weights (1 DENSIFY operators, first 'y')"
    )
    for able in (runtime(), runtime(operators=frozenset({"DENSIFY"}))):
        assert fit(sparse, board(), [able]).ok


def test_shapes_that_only_the_run_knows():
    inner = graph_of(tensor("x", (1, 2), signature=(1, -1)), tensor("y", (1,)))
    assert only(fit(inner, board(), [runtime()])) == (
        "Small needs fixed shapes, and only the run knows those of 1 tensors, first 'x' [1, -1]"
    )
    batch = graph_of(tensor("x", (1, 2), signature=(-1, 2)), tensor("y", (1,)))
    assert fit(batch, board(), [runtime()]).ok
    assert fit(inner, board(kind="linux", arch="aarch64"), [runtime()]).ok


def test_constants_behind_the_flatbuffer():
    def edit(made):
        made.subgraphs[0].tensors[1].externalBuffer = 1

    graph = parse(
        model(subgraph([tensor("x", (1,)), tensor("w", (256,))], [], [0], [0]), edit=edit), "m"
    )
    assert only(fit(graph, board(), [runtime()])) == (
        "Small reads garbage for 1 constants whose 1.0 KiB lie outside the flatbuffer"
    )


def test_types_that_no_microcontroller_kernel_takes():
    graph = graph_of(
        tensor("x", (1,), "float16"),
        tensor("y", (1,)),
        tensor("z", (2,), "float16"),
    )
    assert only(fit(graph, board(), [runtime()])) == (
        "Small has no kernels for float16 (2 tensors, first 'x')"
    )


def test_an_operator_without_outputs_is_named():
    graph = graph_of(
        tensor("x", (1,)), tensor("y", (1,)), operators=[operator("ASSIGN_VARIABLE", [0, 1], [])]
    )
    assert "first 'no output'" in only(fit(graph, board(), [runtime(operators=frozenset())]))


def test_one_runtime_that_works_is_enough_and_the_other_is_explained():
    both = [runtime(), runtime(name="Big", ram_bytes=99 * KIB), runtime(name="None", arches=("x",))]
    found = fit(CONV, board(ram=10.0), both)
    assert found.ok
    assert found.reasons == (
        "with Big: needs 99.4 KiB of RAM (arena 0.4 + runtime 99.0), board has 10.0",
        "None does not exist for armv7e-m, the architecture of board",
    )
    assert not fit(CONV, board(ram=10.0), both[1:]).ok
    assert not fit(CONV, board(), []).ok


def test_every_constraint_is_listed_and_documented():
    defined = [value for name, value in vars(fitting).items() if name.startswith("constraint_")]
    assert list(CONSTRAINTS) == defined
    for constraint in CONSTRAINTS:
        assert constraint.__doc__
        assert not constraint.__doc__.strip().endswith(".")


@pytest.mark.parametrize("size", [0, 1])
def test_an_empty_model_fits_anywhere(size):
    empty = parse(model(subgraph([], [], [], [])), "m")
    assert fit(empty, board(flash=1000, ram=size), [runtime()]).ok


def test_a_runtime_keeps_memory_for_what_it_counts():
    counting = runtime(
        ram_bytes=1000,
        ram_per_tensor_bytes=100,
        ram_per_operator_bytes=10,
        ram_per_channel_bytes=1,
    )
    assert runtime_ram_bytes(CONV, counting) == 1000 + 4 * 100 + 10 + 4
    # Neither an operator that is no convolution nor one without a filter has channels.
    for name, inputs in (("ABS", [0]), ("CONV_2D", [0, -1]), ("CONV_2D", [0, 0])):
        odd = graph_of(tensor("x", ()), tensor("y", (1,)), operators=[operator(name, inputs, [1])])
        assert runtime_ram_bytes(odd, counting) == 1000 + 200 + 10


def handle(name):
    options = schema.VarHandleOptionsT()
    options.container, options.sharedName = "", name
    return options


def test_resource_variables_count_once_each():
    tensors = [
        tensor("x", (4,)),
        tensor("a", (), "resource"),
        tensor("b", (), "resource"),
        tensor("y", (4,)),
        tensor("z", (2,)),
    ]
    operators = [
        operator("VAR_HANDLE", [], [1], handle("state")),
        operator("VAR_HANDLE", [], [2], handle("other")),
        operator("READ_VARIABLE", [1], [3]),
        operator("READ_VARIABLE", [2], [4]),
        operator("ASSIGN_VARIABLE", [1, 0], []),
        operator("ASSIGN_VARIABLE", [1, -1], []),
        operator("ASSIGN_VARIABLE", [0, 3], []),
    ]
    graph = graph_of(*tensors, operators=operators)
    assert resource_bytes(graph) == 16 + 8
    assert runtime_ram_bytes(graph, runtime()) == 24
