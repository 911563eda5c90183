"""What a flatbuffer is, as one record."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from edgepack.files import gzip_size, sha256
from edgepack.graph.cost import cost, operator_cost
from edgepack.graph.fit import fit
from edgepack.graph.parse import parse, read_bytes
from edgepack.graph.plan import plan
from edgepack.graph.sparsity import sparsity
from edgepack.graph.types import Graph, Subgraph, Tensor
from edgepack.graph.weights import filter_of, form, identity, sources
from edgepack.records import Facts, FactsMemory, Operator, Signature, Tensors, TensorSpec
from edgepack.runtimes.tables import load
from edgepack.spec.target import Target


def facts(path: Path, target: Target | None = None) -> Facts:
    """The facts about the model file ``path``; with its fit where a ``target`` is given.

    Raises ModelError where the file is no sound model, SpecError where the target names a
    runtime that nobody knows.
    """
    content = read_bytes(path)
    graph = parse(content, str(path))
    arena = plan(graph)
    return Facts(
        file=str(path),
        size_bytes=len(content),
        gzip_bytes=gzip_size(content),
        sha256=sha256(content),
        signatures=signatures(graph),
        operators=operators(graph),
        tensors=_tensors(graph),
        cost=cost(graph),
        memory=FactsMemory(
            arena_bytes=arena.arena_bytes, lower_bound_bytes=arena.lower_bound_bytes
        ),
        sparsity=sparsity(graph),
        custom_ops=custom_ops(graph),
        subgraphs=len(graph.subgraphs),
        fit=fit(graph, target, [load(name) for name in target.runtimes]) if target else None,
    )


def signatures(graph: Graph) -> tuple[Signature, ...]:
    """The entry points that the file names; one with the key "" where it names none.

    Inputs and outputs stand in the order of their subgraph, under the signature's names.
    """
    if not graph.signatures:
        return (_signature("", graph.main, {}, {}),)
    return tuple(
        _signature(item.key, graph.subgraphs[item.subgraph], item.inputs, item.outputs)
        for item in graph.signatures
    )


def _signature(
    key: str, subgraph: Subgraph, inputs: dict[str, int], outputs: dict[str, int]
) -> Signature:
    def specs(order: tuple[int, ...], names: dict[str, int]) -> tuple[TensorSpec, ...]:
        known = {index: name for name, index in names.items()}
        return tuple(tensor_spec(subgraph.tensors[index], known.get(index, "")) for index in order)

    return Signature(
        key=key, inputs=specs(subgraph.inputs, inputs), outputs=specs(subgraph.outputs, outputs)
    )


def tensor_spec(tensor: Tensor, name: str = "") -> TensorSpec:
    """An input or output as the records know it, under ``name`` or else its own."""
    scaled = tensor.quantisation if tensor.granularity == "per-tensor" else None
    return TensorSpec(
        name=name or tensor.name,
        shape=tensor.shape,
        dtype=tensor.dtype,
        scale=float(scaled.scales[0]) if scaled else None,
        zero_point=int(scaled.zero_points[0]) if scaled else None,
    )


def operators(graph: Graph) -> tuple[Operator, ...]:
    """The per-layer table: every operator of every subgraph, in the order in which they run."""
    rows = []
    for subgraph in graph.subgraphs:
        known = sources(subgraph)
        for operator in subgraph.operators:
            spent = operator_cost(subgraph, operator, known)
            shape = form(subgraph, operator, known)
            source = filter_of(operator, known)
            output = subgraph.tensors[operator.outputs[0]] if operator.outputs else None
            rows.append(
                Operator(
                    index=operator.index,
                    subgraph=subgraph.index,
                    name=operator.name,
                    version=operator.version,
                    layer=output.name if output else "",
                    dtype=output.dtype if output else shape.activations,
                    weights=source.tensor.dtype if source else None,
                    granularity=shape.granularity,
                    output_shape=output.shape if output else (),
                    params=spent.params,
                    macs=spent.macs,
                    bytes_moved=spent.bytes_moved,
                    weight_bytes=spent.weight_bytes,
                )
            )
    return tuple(rows)


def custom_ops(graph: Graph) -> tuple[str, ...]:
    """The names of the custom operators, Flex ones too, sorted."""
    found = {
        operator.name
        for subgraph in graph.subgraphs
        for operator in subgraph.operators
        if operator.custom
    }
    return tuple(sorted(found))


def _tensors(graph: Graph) -> Tensors:
    """Counts of all tensors, and the bytes of all constants, those that share bytes once."""
    dtypes: Counter[str] = Counter()
    stored: Counter[str] = Counter()
    seen = set()
    for subgraph in graph.subgraphs:
        for tensor in subgraph.tensors:
            dtypes[tensor.dtype] += 1
            if tensor.constant and identity(subgraph, tensor) not in seen:
                seen.add(identity(subgraph, tensor))
                stored[tensor.dtype] += tensor.stored_bytes
    return Tensors(
        count=sum(dtypes.values()),
        dtypes=dict(sorted(dtypes.items())),
        weight_bytes=dict(sorted(stored.items())),
        dynamic=any(tensor.dynamic for subgraph in graph.subgraphs for tensor in subgraph.tensors),
    )
