"""Constants as arrays: packed and sparse ones too."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgepack.errors import ModelError
from edgepack.graph.constants import stored_values, values
from edgepack.graph.parse import parse
from edgepack.graph.sparsity import sparsity, zeros_of
from edgepack.graph.types import Tensor
from tests.unit.graph.flatbuffers import constant, convolution, model, operator, subgraph, tensor


def made(**fields) -> Tensor:
    fields = {"name": "t", "index": 0, **fields}
    return Tensor(shape_signature=fields["shape"], **fields)


@given(
    st.sampled_from(["int4", "uint4", "int2"]),
    st.data(),
)
def test_packed_integers_unpack_low_bits_first(dtype, data):
    bits = {"int4": 4, "uint4": 4, "int2": 2}[dtype]
    low = 0 if dtype.startswith("u") else -(2 ** (bits - 1))
    wanted = data.draw(st.lists(st.integers(low, low + 2**bits - 1), min_size=1, max_size=17))
    packed = bytearray(-(-len(wanted) * bits // 8))
    for index, value in enumerate(wanted):
        packed[index * bits // 8] |= (value % 2**bits) << (index * bits % 8)
    packed_tensor = made(shape=(len(wanted),), dtype=dtype, data=memoryview(packed))
    assert packed_tensor.size_bytes == len(packed)
    assert values(packed_tensor).tolist() == wanted


def test_plain_constants_come_in_their_own_type():
    array = np.arange(6, dtype=np.float16).reshape(2, 3)
    found = values(made(shape=(2, 3), dtype="float16", data=memoryview(array.tobytes())))
    assert found.dtype == np.float16
    assert np.array_equal(found, array)


def test_bfloat16_comes_as_float32():
    halves = (np.array([1.5, -2.0], np.float32).view(np.uint32) >> 16).astype(np.uint16)
    found = values(made(shape=(2,), dtype="bfloat16", data=memoryview(halves.tobytes())))
    assert found.tolist() == [1.5, -2.0]


def test_what_has_no_values_says_so():
    with pytest.raises(ModelError, match="computed, not constant"):
        values(made(shape=(1,), dtype="int8"))
    with pytest.raises(ModelError, match="in another file"):
        values(made(shape=(1,), dtype="int8", external=True))
    with pytest.raises(ModelError, match="hold no numbers"):
        values(made(shape=(1,), dtype="variant", data=memoryview(b"12345678")))


def index_vector(numbers):
    made_vector = schema.Uint8VectorT()
    made_vector.values = np.array(numbers, np.uint8)
    return made_vector


def encode(dense: np.ndarray, block: int):
    """(stored values, schema parameters): rows dense, blocks of columns sparse."""
    rows, columns = dense.shape
    parameters = schema.SparsityParametersT()
    segments, indices, stored = [0], [], []
    for row in range(rows):
        for at in range(0, columns, block):
            if np.any(dense[row, at : at + block]):
                indices.append(at // block)
                stored += dense[row, at : at + block].tolist()
        segments.append(len(indices))
    outer, inner = schema.DimensionMetadataT(), schema.DimensionMetadataT()
    outer.format, outer.denseSize = schema.DimensionType.DENSE, rows
    inner.format = schema.DimensionType.SPARSE_CSR
    inner.arraySegmentsType = inner.arrayIndicesType = schema.SparseIndexVector.Uint8Vector
    inner.arraySegments, inner.arrayIndices = index_vector(segments), index_vector(indices)
    parameters.dimMetadata, parameters.traversalOrder = [outer, inner], [0, 1]
    if block > 1:
        last = schema.DimensionMetadataT()
        last.format, last.denseSize = schema.DimensionType.DENSE, block
        parameters.dimMetadata.append(last)
        parameters.traversalOrder, parameters.blockMap = [0, 1, 2], [1]
    return np.array(stored, dense.dtype), parameters


def sparse_model(dense, block, change=None):
    stored, parameters = encode(dense, block)
    if change:
        change(parameters)
    return model(
        subgraph(
            [
                tensor("w", dense.shape, "int8", stored, sparsity=parameters, scales=[1.0]),
                tensor("d", dense.shape, "int8", scales=[1.0]),
            ],
            [operator("DENSIFY", [0], [1])],
            [],
            [1],
        )
    )


@given(
    hnp.arrays(np.int8, (5, 8), elements=st.sampled_from([0, 0, 0, 1, -7])),
    st.sampled_from([1, 2, 4]),
)
def test_sparse_encodings_unfold_to_the_dense_array(dense, block):
    dense[0, 0] = 3
    graph = parse(sparse_model(dense, block), "m")
    weights = graph.main.tensors[0]
    assert np.array_equal(values(weights), dense)
    assert zeros_of(weights) == np.count_nonzero(dense == 0)


DENSE = np.zeros((5, 8), np.int8)
DENSE[1, 2], DENSE[4, 7] = 5, 6


def broken(change):
    return parse(sparse_model(DENSE, 1, change), "m").main.tensors[0]


def test_damaged_sparse_encodings_are_one_line():
    def segments(numbers):
        def change(parameters):
            parameters.dimMetadata[1].arraySegments = index_vector(numbers)

        return change

    def indices(numbers):
        def change(parameters):
            parameters.dimMetadata[1].arrayIndices = index_vector(numbers)

        return change

    def rows(parameters):
        parameters.dimMetadata[0].denseSize = 10**6

    for change, message in (
        (segments([0, 1]), "segments that do not follow"),
        (segments([0, 1, 0, 1, 1, 2]), "segments that do not follow"),
        (segments([0, 0, 1, 1, 1, 9]), "names 9 entries and holds 2"),
        (indices([2, 8]), "outside axis 1"),
        (rows, "more entries than its shape"),
    ):
        with pytest.raises(ModelError, match=message):
            values(broken(change))
    too_many = made(
        shape=(5, 8), dtype="int8", data=memoryview(b"\x01"), sparse=broken(None).sparse
    )
    with pytest.raises(ModelError, match="places 2 values and holds 1"):
        values(too_many)
    huge = made(
        shape=(2**16, 2**16), dtype="int8", data=memoryview(b"\x01"), sparse=broken(None).sparse
    )
    with pytest.raises(ModelError, match="unfolds to"):
        values(huge)


def test_sparse_encodings_that_do_not_fit_their_tensor_are_refused_at_once():
    def order(parameters):
        parameters.traversalOrder = [0, 0]

    def block(parameters):
        parameters.traversalOrder, parameters.blockMap = [0, 1, 2], [5]
        parameters.dimMetadata.append(parameters.dimMetadata[0])

    def no_indices(parameters):
        parameters.dimMetadata[1].arrayIndicesType = 0
        parameters.dimMetadata[1].arrayIndices = None

    for change, message in (
        (order, "does not fit its 2 dimensions"),
        (block, "blocks lie outside"),
        (no_indices, "without indices"),
    ):
        with pytest.raises(ModelError, match=message):
            broken(change)


def test_zeros_are_real_zeros_and_biases_do_not_count():
    found = sparsity(parse(convolution(), "m"))
    assert (found.weights, found.zeros, found.encoded_bytes) == (108, 1, 0)
    assert found.fraction == pytest.approx(1 / 108)


def test_zeros_follow_the_zero_points():
    array = np.array([[3, 3, 1], [0, 5, 5]], np.uint8)
    tensors = [
        constant("a", array, scales=[1.0], zero_points=[3]),
        constant("b", array, scales=[1.0, 2.0], zero_points=[3, 5]),
        tensor("o", (1, 2)),
    ]
    graph = parse(
        model(
            subgraph(tensors, [operator("ADD", [0, 1], [2])], [], [2]),
        ),
        "m",
    )
    first, second, _ = graph.main.tensors
    assert (zeros_of(first), zeros_of(second)) == (2, 4)
    assert sparsity(graph).zeros == 6


def test_encoded_bytes_count_values_and_indices():
    graph = parse(sparse_model(DENSE, 1), "m")
    # The only operator unpacks: nobody uses the weights, so they are none of the model's.
    assert sparsity(graph).encoded_bytes == 0
    stored, parameters = encode(DENSE, 1)
    tensors = [
        tensor("in", (1, 8)),
        tensor("w", DENSE.shape, "int8", stored, sparsity=parameters, scales=[1.0]),
        tensor("d", DENSE.shape, "int8", scales=[1.0]),
        tensor("out", (1, 5)),
    ]
    operators = [operator("DENSIFY", [1], [2]), operator("FULLY_CONNECTED", [0, 2, -1], [3])]
    found = sparsity(parse(model(subgraph(tensors, operators, [0], [3])), "m"))
    assert (found.weights, found.zeros) == (40, 38)
    assert found.encoded_bytes == 2 + 6 + 2
    assert stored_values(graph.main.tensors[0]).tolist() == [5, 6]
