"""What completing a flatbuffer does to its bytes."""

from __future__ import annotations

import dataclasses

import flatbuffers
import numpy as np
import pytest

from edgepack.errors import ModelError
from edgepack.export import to_float
from edgepack.export.compare import run
from edgepack.export.flatbuffer import (
    completed,
    not_finite,
    packed,
    raise_versions,
    schema,
    unpacked,
)
from edgepack.graph.parse import parse
from edgepack.model.predict import predict
from edgepack.records import TensorSpec
from tests.tf.export_models import Samples, build

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]


@pytest.fixture(scope="module")
def model():
    return build("forked")


@pytest.fixture(scope="module")
def content(model):
    return to_float(model)


def renamed(model, **names):
    def named(specs):
        return tuple(dataclasses.replace(s, name=names.get(s.name, s.name)) for s in specs)

    return dataclasses.replace(model, inputs=named(model.inputs), outputs=named(model.outputs))


def with_constants_behind(content: bytes) -> bytes:
    """The same model with its largest constant behind the flatbuffer, as large files have it."""
    tree = unpacked(content)
    constants = [tree.buffers[tensor.buffer] for tensor in tree.subgraphs[0].tensors]
    buffer = max(constants, key=lambda b: 0 if b.data is None else len(b.data))
    data, buffer.data = bytes(buffer.data), None
    buffer.offset, buffer.size = 1 << 20, len(data)
    draft = flatbuffers.Builder(1024)
    draft.Finish(tree.Pack(draft), b"TFL3")
    buffer.offset = len(draft.Output())
    builder = flatbuffers.Builder(1024)
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output()) + data


def test_every_constant_is_aligned_and_inside(content):
    table = schema().Model.GetRootAs(content, 0)
    base = np.frombuffer(content, np.uint8).__array_interface__["data"][0]
    seen = 0
    for index in range(table.BuffersLength()):
        data = table.Buffers(index).DataAsNumpy()
        if isinstance(data, np.ndarray):
            assert (data.__array_interface__["data"][0] - base) % 16 == 0
            seen += 1
        assert table.Buffers(index).Offset() == 0
    assert seen > 3


def test_constants_behind_the_flatbuffer_come_inside(model, content):
    outside = with_constants_behind(content)
    assert any(tensor.external for tensor in parse(outside, "x").main.tensors)
    inside = completed(outside, model)
    x = Samples(model, 4).x
    for found, wanted in zip(run(inside, x, model, "litert-2.3"), predict(model, x), strict=True):
        assert np.allclose(found, wanted, atol=1e-5)


def test_completing_twice_changes_nothing(model, content):
    assert completed(content, model) == content


def test_a_file_without_a_signature_gets_one(model, content):
    tree = unpacked(content)
    tree.signatureDefs = None
    assert completed(packed(tree), model) == content


def test_order_and_names_are_the_models(model, content):
    main = parse(content, "x").main
    names = [main.tensors[index].name for index in (*main.inputs, *main.outputs)]
    assert names == ["zeta", "alpha", "wide", "narrow"]


def test_an_input_and_an_output_of_one_name_stay_apart(model, content):
    made = completed(content, renamed(model, wide="zeta"))
    names = [tensor.name for tensor in parse(made, "x").main.tensors]
    assert len(names) == len(set(names))


def test_subgraphs_of_other_signatures_are_left_out(model, content):
    tree = unpacked(content)
    other = unpacked(content).subgraphs[0]
    tree.subgraphs.append(other)
    extra = schema().BufferT()
    extra.data = np.ones(5000, np.uint8)
    tree.buffers.append(extra)
    made = completed(packed(tree), model)
    assert len(parse(made, "x").subgraphs) == 1
    assert len(made) < len(content) + 100


def test_another_number_of_tensors_is_refused(model, content):
    more = dataclasses.replace(
        model, inputs=(*model.inputs, TensorSpec(name="third", shape=(1, 2), dtype="float32"))
    )
    with pytest.raises(ModelError, match="2 tensors where the model has 3"):
        completed(content, more)


def test_nan_is_found_by_name(content):
    assert not_finite(content) is None
    tree = unpacked(content)
    tensor = next(
        t for t in tree.subgraphs[0].tensors
        if t.type == schema().TensorType.FLOAT32 and tree.buffers[t.buffer].data is not None
    )  # fmt: skip
    data = np.array(tree.buffers[tensor.buffer].data).view(np.float32)
    data[0] = np.nan
    tree.buffers[tensor.buffer].data = data.view(np.uint8)
    assert not_finite(packed(tree)) == tensor.name.decode()


def test_versions_rise_to_what_operands_need(content):
    tree = unpacked(content)
    for code in tree.operatorCodes:
        code.version = 1
    graph = tree.subgraphs[0]
    for tensor in graph.tensors:
        if tensor.type == schema().TensorType.FLOAT32:
            tensor.type = schema().TensorType.INT8
    raise_versions(tree)
    versions = {op.name: op.version for op in parse(packed(tree), "x").main.operators}
    assert versions["FULLY_CONNECTED"] == 4
    assert versions["CONCATENATION"] == 2
