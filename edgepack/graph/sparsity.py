"""Zeros among the weights."""

from __future__ import annotations

from math import prod

import numpy as np

from edgepack.graph.constants import stored_values
from edgepack.graph.types import Graph, Tensor
from edgepack.graph.weights import parameters
from edgepack.records import Sparsity


def sparsity(graph: Graph) -> Sparsity:
    """Real zeros among the weights: parameters of two dimensions or more, so no biases.

    Shared weights count once. ``encoded_bytes`` is what sparse encodings take in the file,
    values and indices together. Weights in another file are not seen.
    """
    weights = [
        tensor for tensor in parameters(graph) if len(tensor.shape) > 1 and tensor.data is not None
    ]
    count = sum(tensor.elements for tensor in weights)
    zeros = sum(zeros_of(tensor) for tensor in weights)
    return Sparsity(
        zeros=zeros,
        weights=count,
        fraction=zeros / count if count else 0.0,
        encoded_bytes=sum(_encoded_bytes(tensor) for tensor in weights),
    )


def zeros_of(tensor: Tensor) -> int:
    """How many elements of a constant stand for 0.0; what a sparse encoding leaves out does."""
    stored = stored_values(tensor)
    quantisation = tensor.quantisation
    if quantisation is None or not np.any(quantisation.zero_points):
        return max(tensor.elements - int(np.count_nonzero(stored)), 0)
    zero_points = quantisation.zero_points
    if len(zero_points) > 1 and tensor.sparse is None:
        inner = prod(tensor.shape[quantisation.axis + 1 :])
        owners = np.arange(tensor.elements) // max(inner, 1) % len(zero_points)
        return int(np.count_nonzero(stored[: tensor.elements] == zero_points[owners]))
    return max(tensor.elements - int(np.count_nonzero(stored != zero_points[0])), 0)


def _encoded_bytes(tensor: Tensor) -> int:
    if tensor.sparse is None:
        return 0
    vectors = [
        vector
        for level in tensor.sparse.dimensions
        for vector in (level.segments, level.indices)
        if vector is not None
    ]
    return tensor.stored_bytes + sum(vector.nbytes for vector in vectors)
