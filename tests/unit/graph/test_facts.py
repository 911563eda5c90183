"""The record of a flatbuffer."""

from __future__ import annotations

import gzip
import hashlib

import numpy as np
import pytest

from edgepack.errors import ModelError
from edgepack.graph.facts import facts, signatures
from edgepack.graph.parse import parse
from edgepack.records import Facts
from edgepack.records.document import from_dict, to_dict
from edgepack.spec.target import Memory, Target
from tests.unit.graph.flatbuffers import constant, convolution, model, operator, subgraph, tensor


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(convolution())
    return path


def test_the_record_of_a_convolution(file):
    found = facts(file)
    content = file.read_bytes()
    assert (found.file, found.size_bytes) == (str(file), len(content))
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    assert found.gzip_bytes == len(gzip.compress(content, 9, mtime=0))
    (signature,) = found.signatures
    assert signature.key == "serve"
    (image,), (scores,) = signature.inputs, signature.outputs
    assert (image.name, image.shape, image.dtype) == ("image", (1, 8, 8, 3), "int8")
    assert (image.scale, image.zero_point) == (0.5, -3)
    assert (scores.name, scores.scale, scores.zero_point) == ("scores", 0.25, 7)
    (row,) = found.operators
    assert (row.name, row.layer, row.dtype) == ("CONV_2D", "out", "int8")
    assert (row.weights, row.granularity) == ("int8", "per-channel")
    assert (row.output_shape, row.params) == ((1, 8, 8, 4), 112)
    assert found.cost.macs == row.macs == 64 * 4 * 27
    assert found.memory.arena_bytes == found.memory.lower_bound_bytes == 448
    assert (found.tensors.count, found.tensors.dtypes) == (4, {"int8": 3, "int32": 1})
    assert found.tensors.weight_bytes == {"int8": 108, "int32": 16}
    assert not found.tensors.dynamic
    assert (found.custom_ops, found.subgraphs, found.fit) == ((), 1, None)
    assert from_dict(Facts, to_dict(found)) == found


def test_fit_is_judged_where_a_target_is_given(file):
    def target(ram):
        return Target(
            id="board",
            name="Board",
            kind="mcu",
            arch="armv7e-m",
            runtimes=("tflm",),
            memory=Memory(flash_kib=1e6, ram_kib=ram),
        )

    assert facts(file, target(1e6)).fit.ok
    tight = facts(file, target(0.25)).fit
    assert not tight.ok
    assert "board has 0.2" in tight.reasons[0]


def test_a_file_without_signatures_has_one_with_no_name():
    content = model(
        subgraph(
            [tensor("b", (2,)), tensor("a", (3,)), tensor("out", (2,))],
            [operator("ADD", [0, 1], [2])],
            [1, 0],
            [2],
        )
    )
    (found,) = signatures(parse(content, "m"))
    assert found.key == ""
    assert [item.name for item in found.inputs] == ["a", "b"]
    assert found.inputs[0].scale is None


def test_inputs_stand_in_the_order_of_the_subgraph():
    content = model(
        subgraph([tensor("t0", (1,)), tensor("t1", (2,))], [], [1, 0], [0]),
        signatures=(("k", 0, {"first": 0, "second": 1}, {"o": 0}),),
    )
    (found,) = signatures(parse(content, "m"))
    assert [item.name for item in found.inputs] == ["second", "first"]
    assert [item.shape for item in found.inputs] == [(2,), (1,)]


def test_shared_bytes_and_operators_without_outputs(tmp_path):
    content = model(
        subgraph(
            [
                constant("a", np.ones(4, np.float32)),
                tensor("b", (4,), data=("buffer", 1)),
            ],
            [operator("Sink", [0, 1], []), operator("Another", [], [])],
            [],
            [],
        )
    )
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    found = facts(path)
    assert found.tensors.weight_bytes == {"float32": 16}
    assert found.custom_ops == ("Another", "Sink")
    assert [(row.layer, row.dtype) for row in found.operators] == [("", "float32"), ("", "none")]


def test_a_file_that_is_no_model_is_one_line(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        facts(tmp_path / "none.tflite")
