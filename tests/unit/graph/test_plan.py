"""The arena: lifetimes, the greedy plan, the bound."""

from __future__ import annotations

import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given
from hypothesis import strategies as st

from edgepack.graph.parse import parse
from edgepack.graph.plan import Lifetime, aligned, lifetimes, lower_bound, place, plan
from tests.unit.graph.flatbuffers import convolution, model, operator, subgraph, tensor


@st.composite
def lives(draw: st.DrawFn) -> list[Lifetime]:
    found = []
    for index in range(draw(st.integers(0, 25))):
        first = draw(st.integers(0, 12))
        found.append(
            Lifetime(
                subgraph=0,
                tensor=index,
                size=draw(st.integers(1, 200)),
                first=first,
                last=first + draw(st.integers(0, 6)),
            )
        )
    return found


@given(lives())
def test_nothing_that_lives_together_overlaps_and_the_bounds_hold(found):
    placements = place(found)
    assert [item.lifetime for item in placements] == found
    for index, one in enumerate(placements):
        assert one.offset % 16 == 0
        for other in placements[:index]:
            together = (
                one.lifetime.first <= other.lifetime.last
                and other.lifetime.first <= one.lifetime.last
            )
            apart = (
                one.offset + one.lifetime.size <= other.offset
                or other.offset + other.lifetime.size <= one.offset
            )
            assert apart or not together
    arena = max((aligned(item.offset + item.lifetime.size) for item in placements), default=0)
    assert lower_bound(found) <= arena <= sum(aligned(item.size) for item in found)
    moments = range(20)
    assert lower_bound(found) == max(
        sum(item.size for item in found if item.first <= at <= item.last) for at in moments
    )


def test_a_gap_between_two_is_used():
    sizes = {"wide": (64, 0, 0), "low": (32, 0, 2), "other": (48, 1, 1), "small": (16, 2, 2)}
    found = [
        Lifetime(subgraph=0, tensor=index, size=size, first=first, last=last)
        for index, (size, first, last) in enumerate(sizes.values())
    ]
    assert [item.offset for item in place(found)] == [0, 64, 0, 0]
    # Live at moment 2: [0, 16) and [64, 96); 32 more fit between.
    found.append(Lifetime(subgraph=0, tensor=4, size=14, first=2, last=2))
    assert place(found)[4].offset == 16


def chain(*sizes, **fields):
    """a → b → c …, each a tensor of that many int8 values."""
    tensors = [tensor(str(index), (size,), "int8") for index, size in enumerate(sizes)]
    for index, extra in fields.items():
        tensors[int(index.removeprefix("t"))].update(extra)
    operators = [operator("ABS", [index], [index + 1]) for index in range(len(sizes) - 1)]
    return subgraph(tensors, operators, [0], [len(sizes) - 1])


def test_a_chain_needs_its_dearest_pair():
    found = plan(parse(model(chain(16, 64, 32, 16)), "m"))
    assert (found.arena_bytes, found.lower_bound_bytes) == (96, 96)
    (entry,) = found.entries
    assert [item.lifetime.tensor for item in entry.placements] == [0, 1, 2, 3]


def test_the_largest_tensors_that_are_read_are_planned():
    tensors = [tensor("t", (2**20, 2**20), "int8") for _ in range(30)]
    content = model(subgraph(tensors, [operator("ADD_N", list(range(29)), [29])], [0], [29]))
    assert plan(parse(content, "m")).arena_bytes == 30 * 2**40


def test_constants_and_empty_tensors_take_no_arena():
    found = plan(parse(convolution(), "m"))
    assert found.arena_bytes == 8 * 8 * 3 + 8 * 8 * 4
    assert plan(parse(model(subgraph([], [], [], [])), "m")).arena_bytes == 0


def test_variables_live_throughout():
    content = model(chain(16, 64, 16, t2={"variable": True}))
    (variable,) = [item for item in lifetimes(parse(content, "m")) if item.tensor == 2]
    everything = lifetimes(parse(content, "m"))
    assert variable.first == 0
    assert variable.last == max(item.last for item in everything)


def test_a_tensor_that_nobody_writes_lives_from_the_start():
    content = model(
        subgraph(
            [tensor("a", (4,)), tensor("b", (4,)), tensor("c", (4,)), tensor("unused", (99,))],
            [operator("ABS", [0], [1]), operator("ADD", [1, 2], [1])],
            [0],
            [1],
        )
    )
    found = {item.tensor: item for item in lifetimes(parse(content, "m"))}
    assert found[2].first == 0
    assert 3 not in found


def loop(cond: int, body: int):
    options = schema.WhileOptionsT()
    options.condSubgraphIndex, options.bodySubgraphIndex = cond, body
    return options


def test_a_loop_keeps_its_operands_while_its_body_runs():
    content = model(
        subgraph(
            [tensor("x", (32,), "int8"), tensor("y", (32,), "int8")],
            [operator("WHILE", [0], [1], loop(1, 2))],
            [0],
            [1],
        ),
        chain(16, 16),
        chain(64, 64),
    )
    found = plan(parse(content, "m"))
    assert found.lower_bound_bytes == 32 + 32 + 64 + 64
    assert len(found.entries) == 1
    assert {item.lifetime.subgraph for item in found.entries[0].placements} == {0, 1, 2}


def test_a_subgraph_called_twice_keeps_its_tensors_throughout():
    content = model(
        subgraph(
            [tensor("x", (16,), "int8"), tensor("y", (16,), "int8"), tensor("z", (16,), "int8")],
            [operator("WHILE", [0], [1], loop(1, 1)), operator("WHILE", [1], [2], loop(1, 1))],
            [0],
            [2],
        ),
        subgraph(
            [tensor("a", (16,), "int8"), tensor("b", (16,), "int8")],
            [operator("WHILE", [0], [1], loop(2, 2))],
            [0],
            [1],
        ),
        chain(64, 64),
    )
    everything = lifetimes(parse(content, "m"))
    end = max(item.last for item in everything)
    for item in everything:
        if item.subgraph:
            assert (item.first, item.last) == (0, end)


def test_the_largest_entry_point_counts():
    found = plan(parse(model(chain(16, 16), chain(160, 160)), "m"))
    assert found.arena_bytes == 320
    assert [entry.arena_bytes for entry in found.entries] == [32, 320]


@pytest.mark.parametrize(("size", "wanted"), [(0, 0), (1, 16), (16, 16), (17, 32)])
def test_sizes_are_rounded_up_to_sixteen(size, wanted):
    assert aligned(size) == wanted
