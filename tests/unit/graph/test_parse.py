"""Bytes to a Graph: all that is read."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgepack.errors import ModelError
from edgepack.graph.parse import parse
from tests.unit.graph.flatbuffers import (
    constant,
    convolution,
    model,
    operator,
    subgraph,
    tensor,
)


def test_a_convolution_is_read_whole():
    content = convolution()
    graph = parse(content, "m.tflite")
    assert (graph.name, graph.size_bytes, graph.version) == ("m.tflite", len(content), 3)
    assert graph.description == "made by a test"
    assert bytes(graph.metadata["note"]) == b"hello"
    (signature,) = graph.signatures
    assert (signature.key, signature.subgraph) == ("serve", 0)
    assert (signature.inputs, signature.outputs) == ({"image": 0}, {"scores": 3})
    (conv,) = graph.main.operators
    assert (conv.name, conv.version, conv.inputs, conv.outputs) == ("CONV_2D", 1, (0, 1, 2), (3,))
    assert conv.options["padding"] == "SAME"
    assert conv.options["fused_activation_function"] == "RELU"
    assert conv.options["stride_w"] == 1
    assert not conv.custom
    image, weights, bias, _ = graph.main.tensors
    assert (image.shape, image.dtype, image.constant) == ((1, 8, 8, 3), "int8", False)
    assert image.granularity == "per-tensor"
    assert image.quantisation.zero_points.tolist() == [-3]
    assert weights.granularity == "per-channel"
    assert weights.stored_bytes == weights.elements == 108
    assert bias.size_bytes == 16


def test_options_keep_vectors_strings_and_the_second_union():
    reshape = schema.ReshapeOptionsT()
    reshape.newShape = [1, 4]
    handle = schema.VarHandleOptionsT()
    handle.container, handle.sharedName = b"box", b"state"
    composite = schema.StableHLOCompositeOptionsT()
    composite.name, composite.decompositionSubgraphIndex = "odml.norm", 1
    graph = parse(
        model(
            subgraph(
                [tensor("a", (4,)), tensor("b", (1, 4)), tensor("r", (), "resource")],
                [
                    operator("RESHAPE", [0, -1], [1], reshape),
                    operator("VAR_HANDLE", [], [2], handle),
                    operator("STABLEHLO_COMPOSITE", [0], [1], composite),
                    operator("Mine", [0], [1], custom_options=[1, 2, 3]),
                ],
                [0],
                [1],
            ),
            subgraph([tensor("a", (4,))], [], [0], [0]),
        ),
        "m",
    )
    first, second, third, own = graph.main.operators
    assert first.options["new_shape"] == (1, 4)
    assert first.inputs == (0, -1)
    assert second.options == {"container": "box", "shared_name": "state"}
    assert third.calls == (1,)
    assert (own.name, own.custom, own.custom_options) == ("Mine", True, b"\x01\x02\x03")
    assert not own.flex


def test_dynamic_dimensions_stand_in_the_signature():
    graph = parse(
        model(
            subgraph(
                [tensor("a", (1, 3), signature=(-1, 3)), tensor("b", (-1, 2)), tensor("c", (2,))],
                [],
                [0, 1],
                [2],
            )
        ),
        "m",
    )
    left, right, fixed = graph.main.tensors
    assert (left.shape, left.shape_signature, left.dynamic) == ((1, 3), (-1, 3), True)
    assert (right.shape, right.shape_signature, right.dynamic) == ((1, 2), (-1, 2), True)
    assert not fixed.dynamic


def test_blockwise_scales_are_tensors():
    details = schema.BlockwiseQuantizationT()
    details.scales, details.blockSize, details.zeroPoints = 1, 32, -1
    tensors = [
        constant("w", np.zeros((2, 64), np.int8), details=details),
        constant("s", np.ones((2, 2), np.float16)),
    ]
    graph = parse(model(subgraph(tensors, [], [], [])), "m")
    found = graph.main.tensors[0].quantisation
    assert (found.granularity, found.block_size, found.scale_tensor) == ("blockwise", 32, 1)
    assert found.zero_point_tensor is None
    details.scales = 9
    with pytest.raises(ModelError, match="tensor 0: no tensor 9 of scales"):
        parse(model(subgraph(tensors, [], [], [])), "m")


def test_a_range_from_training_is_no_quantisation():
    def edit(made):
        made.subgraphs[0].tensors[0].quantization = schema.QuantizationParametersT()
        made.subgraphs[0].tensors[0].quantization.min = [0.0]

    assert parse(convolution(edit), "m").main.tensors[0].quantisation is None


def test_buffers_behind_the_flatbuffer_are_found():
    values = np.arange(4, dtype=np.float32)
    place = [0, 0]

    def edit(made):
        made.buffers[1].data = None
        made.buffers[1].offset, made.buffers[1].size = place

    def write():
        tensors = [constant("w", values), tensor("o", (4,))]
        return model(subgraph(tensors, [], [], [1]), edit=edit)

    place[:] = [10**6, values.nbytes]
    end = len(write())
    place[:] = [end, values.nbytes]
    graph = parse(write() + values.tobytes(), "m")
    weights = graph.main.tensors[0]
    assert weights.external
    assert bytes(weights.data) == values.tobytes()
    place[:] = [end + 1, values.nbytes]
    with pytest.raises(ModelError, match=r"buffer 1 ends at byte \d+, the file at \d+"):
        parse(write() + values.tobytes(), "m")


def test_weights_in_another_file_are_constant_but_not_seen():
    def edit(made):
        made.subgraphs[0].tensors[0].externalBuffer = 1

    graph = parse(model(subgraph([tensor("w", (4,))], [], [], []), edit=edit), "m")
    assert graph.main.tensors[0].constant
    assert graph.main.tensors[0].data is None
    assert graph.main.tensors[0].stored_bytes == 16


def test_an_operator_of_a_newer_schema_keeps_its_number():
    def edit(made):
        made.operatorCodes[0].builtinCode = 9999

    assert parse(convolution(edit), "m").main.operators[0].name == "BUILTIN_9999"


def test_conv_options_without_table_are_empty():
    graph = parse(
        model(
            subgraph([tensor("a", (1,)), tensor("b", (1,))], [operator("ABS", [0], [1])], [0], [1])
        ),
        "m",
    )
    assert graph.main.operators[0].options == {}
