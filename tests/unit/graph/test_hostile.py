"""Hostile bytes: whatever is wrong, one ModelError line, and no more memory than the file's."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from ai_edge_litert import schema_py_generated as schema

from edgepack.errors import ModelError
from edgepack.graph import parse as parsing
from edgepack.graph import reading
from edgepack.graph.parse import parse, read
from tests.unit.graph.flatbuffers import convolution, model, operator, subgraph, tensor


def one(**fields):
    """A model of one tensor with these fields."""
    return model(subgraph([{**tensor("t", (2,)), **fields}], [], [], []))


def calling(*called):
    """Subgraphs that call one another: subgraph i calls ``called[i]``."""
    options = []
    for index in called:
        option = schema.CallOnceOptionsT()
        option.initSubgraphIndex = index
        options.append(option)
    return model(*(subgraph([], [operator("CALL_ONCE", [], [], item)], [], []) for item in options))


def edited(change):
    return convolution(edit=change)


def _set(path, value):
    def change(made):
        *parents, last = path
        for step in parents:
            made = made[step] if isinstance(step, int) else getattr(made, step)
        setattr(made, last, value)

    return edited(change)


CONV = ("subgraphs", 0, "operators", 0)
WEIGHTS = ("subgraphs", 0, "tensors", 1)
BAD = {
    "empty": (b"", "the file is empty"),
    "too short": (b"\x00" * 6, "not a TensorFlow Lite model"),
    "text": (b"hello, this is no flatbuffer", "not a TensorFlow Lite model"),
    "only a mark": (b"\x08\x00\x00\x00TFL3", "damaged or truncated"),
    "root outside": (b"\xff\xff\xff\x7fTFL3" + b"\x00" * 64, "damaged or truncated"),
    "schema version": (_set(("version",), 2), "schema version 2"),
    "no subgraph": (model(), "holds no subgraph"),
    "operator input": (_set((*CONV, "inputs"), [0, 99, 2]), "CONV_2D inputs: no tensor 99"),
    "operator input below": (_set((*CONV, "inputs"), [-2]), "no tensor -2"),
    "operator output": (_set((*CONV, "outputs"), [-1]), "outputs: no tensor -1"),
    "operator code": (_set((*CONV, "opcodeIndex"), 5), "no operator code 5"),
    "subgraph input": (_set(("subgraphs", 0, "inputs"), [4]), "subgraph 0 inputs: no tensor 4"),
    "subgraph output": (_set(("subgraphs", 0, "outputs"), [-1]), "outputs: no tensor -1"),
    "buffer": (_set((*WEIGHTS, "buffer"), 77), "no buffer 77"),
    "buffer too small": (_set((*WEIGHTS, "shape"), [4, 30, 3, 3]), "needs 1080 bytes"),
    "tensor type": (_set((*WEIGHTS, "type"), 120), "unknown type 120"),
    "metadata": (_set(("metadata", 0, "buffer"), 50), "metadata 'note': no buffer 50"),
    "signature subgraph": (_set(("signatureDefs", 0, "subgraphIndex"), 3), "no subgraph 3"),
    "signature tensor": (
        _set(("signatureDefs", 0, "inputs", 0, "tensorIndex"), 1),
        "'image' is tensor 1, not among the inputs",
    ),
    "scales": (_set((*WEIGHTS, "quantization", "quantizedDimension"), 3), "4 scales on axis 3"),
    "zero points": (_set((*WEIGHTS, "quantization", "zeroPoint"), [0, 0]), "2 zero points"),
    "negative dimension": (one(shape=(2, -7)), "negative dimension"),
    "huge shape": (one(shape=(2**31 - 1,) * 4), "larger than any memory"),
    "large shape": (one(shape=(2**19, 2**19 + 1)), "larger than any memory"),
    "many dimensions": (one(shape=(2,) * 17), "17 dimensions"),
    "circle": (calling(1, 0), "in a circle"),
    "itself": (calling(0), "in a circle"),
    "callee": (calling(7), "no subgraph 7"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_bytes_are_one_line(case):
    content, message = BAD[case]
    with pytest.raises(ModelError, match=message) as caught:
        parse(content, "bad.tflite")
    assert caught.value.message.startswith("bad.tflite: ")
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_names_from_the_file_cannot_spoil_the_line():
    name = "evil\n\x1b[31m" + "x" * 5000
    content = model(
        subgraph([{**tensor(name, (9,)), "data": b"1234"}], [], [], []),
    )
    with pytest.raises(ModelError) as caught:
        parse(content, "m")
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 300
    assert (
        parse(model(subgraph([tensor(name, (9,))], [], [], [])), "m").main.tensors[0].name == name
    )


def test_a_long_chain_of_calls_is_refused():
    chain = [subgraph([], [operator("A", [], [])], [], [])]
    for index in range(1, 110):
        option = schema.CallOnceOptionsT()
        option.initSubgraphIndex = index - 1
        chain.append(subgraph([], [operator("CALL_ONCE", [], [], option)], [], []))
    with pytest.raises(ModelError, match="110 deep"):
        parse(model(*chain), "m")


def test_missing_files_and_folders_are_one_line(tmp_path: Path):
    with pytest.raises(ModelError, match="no such file"):
        read(tmp_path / "none.tflite")
    with pytest.raises(ModelError, match="not a file"):
        read(tmp_path)
    with pytest.raises(ModelError, match="not a file"):
        read(Path(os.devnull))
    with pytest.raises(ModelError, match="cannot be read"):
        read(tmp_path / "none\0.tflite")
    (tmp_path / "m.tflite").write_bytes(convolution())
    assert read(tmp_path / "m.tflite").main.operators[0].name == "CONV_2D"


def test_vectors_longer_than_the_file_are_refused():
    content = convolution()
    found = 0
    # Whatever 32-bit word is a vector's length, making it enormous must not be believed.
    for place in range(8, len(content) - 4, 4):
        damaged = bytearray(content)
        damaged[place : place + 4] = struct.pack("<I", 0x7FFFFFF0)
        try:
            parse(bytes(damaged), "m")
        except ModelError:
            found += 1
    assert found > 20


def test_tables_that_many_entries_share_run_out_of_budget(monkeypatch):
    tensors = [tensor("t" * 200, (1,) * 16) for _ in range(3)]
    content = bytearray(model(subgraph(tensors, [], [], [])))
    budget = reading.Budget(100)
    with pytest.raises(reading.Malformed, match="more tensors than the file can hold"):
        budget.range(10**6, "tensors")
    monkeypatch.setattr(reading, "MOST_TABLES", 3)
    with pytest.raises(ModelError, match="edgepack reads"):
        parse(bytes(content), "m")


def test_aliased_tables_cannot_multiply_the_file():
    """A vector of thousands of references to one large table must not be unfolded."""
    many = 3000
    tensors = [tensor("t", (1,)) for _ in range(many)]
    tensors[0] = tensor("n" * 60_000, (1,))
    content = bytearray(model(subgraph(tensors, [], [], [])))
    table = schema.Model.GetRootAs(bytes(content), 0).Subgraphs(0)
    place = table._tab.Vector(table._tab.Offset(4))
    target = table.Tensors(0)._tab.Pos
    for index in range(many):
        entry = place + 4 * index
        # References only point forward; those behind the table keep their own.
        if target > entry:
            content[entry : entry + 4] = struct.pack("<I", target - entry)
    with pytest.raises(ModelError, match="more text than the file can hold"):
        parse(bytes(content), "m")


def test_memory_that_runs_out_is_one_line(monkeypatch):
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("edgepack.graph.parse._read_model", fail)
    with pytest.raises(ModelError, match="too large for this machine"):
        parse(convolution(), "m")


def test_entry_points_that_share_too_much_are_refused(monkeypatch):
    entries = [subgraph([tensor("t", (1,))] * 5, [], [], []) for _ in range(4)]
    monkeypatch.setattr(parsing, "MOST_WALKED", 79)
    with pytest.raises(ModelError, match="has 4 entry points over 20 tensors and operators"):
        parse(model(*entries), "m")
    monkeypatch.setattr(parsing, "MOST_WALKED", 80)
    assert len(parse(model(*entries), "m").subgraphs) == 4
