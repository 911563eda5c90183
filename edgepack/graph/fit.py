"""Whether a model fits a target, and if not, why: a sentence with numbers for each reason.

Each ``constraint_*`` function yields the values that fill its docstring once for each way in
which the model fails; so the docstring is the reason that people read and the documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from edgepack.graph.overhead import runtime_ram_bytes
from edgepack.graph.plan import plan
from edgepack.graph.reading import shown
from edgepack.graph.types import Graph, Operator, Subgraph
from edgepack.graph.weights import Form, form, sources
from edgepack.records import Fit
from edgepack.runtimes.tables import Row, Runtime
from edgepack.spec.target import Target

KIB = 1024
MCU_REFUSED = frozenset(
    {"bfloat16", "complex128", "complex64", "float16", "float64", "string", "variant"}
)
"""Types that no microcontroller kernel takes."""


@dataclass(frozen=True)
class Case:
    """A model on a target with one of its runtimes."""

    graph: Graph
    target: Target
    runtime: Runtime

    @cached_property
    def arena_bytes(self) -> int:
        """The planned activation arena."""
        return plan(self.graph).arena_bytes

    @cached_property
    def forms(self) -> tuple[tuple[Operator, str, Form], ...]:
        """Each operator that is not custom, its layer's name, and the form it computes in."""
        found = []
        for subgraph in self.graph.subgraphs:
            known = sources(subgraph)
            found += [
                (operator, layer(subgraph, operator), form(subgraph, operator, known))
                for operator in subgraph.operators
                if not operator.custom
            ]
        return tuple(found)

    @property
    def on_mcu(self) -> bool:
        """Whether the target is a microcontroller."""
        return self.target.kind == "mcu"


Reasons = Iterator[dict[str, object]]


def fit(graph: Graph, target: Target, runtimes: Sequence[Runtime]) -> Fit:
    """Whether at least one of ``runtimes`` runs ``graph`` within the memory of ``target``.

    The reasons say of each runtime why it does not, also where another one does.
    """
    found = [reasons(Case(graph, target, runtime)) for runtime in runtimes]
    several = len(runtimes) > 1
    return Fit(
        ok=any(not items for items in found),
        reasons=tuple(
            f"with {runtime.name}: {item}" if several and runtime.name not in item else item
            for runtime, items in zip(runtimes, found, strict=True)
            for item in items
        ),
    )


def reasons(case: Case) -> list[str]:
    """Every reason why ``case`` fails, empty where it fits."""
    return [
        " ".join((constraint.__doc__ or "").split()).format(runtime=case.runtime.name, **values)
        for constraint in CONSTRAINTS
        for values in constraint(case)
    ]


def layer(subgraph: Subgraph, operator: Operator) -> str:
    """The name of an operator's first output, by which people know their layers."""
    return shown(subgraph.tensors[operator.outputs[0]].name) if operator.outputs else "no output"


def constraint_arch(case: Case) -> Reasons:
    """{runtime} does not exist for {arch}, the architecture of {target}"""
    if case.runtime.arches and case.target.arch not in case.runtime.arches:
        yield {"arch": case.target.arch, "target": case.target.id}


def constraint_flash(case: Case) -> Reasons:
    """needs {needs} KiB of flash (model {model} + runtime {code}), {target} has {has}"""
    has, needs = case.target.memory.flash_kib, case.graph.size_bytes + case.runtime.code_bytes
    if has is not None and needs > has * KIB:
        yield {
            "needs": _kib(needs),
            "model": _kib(case.graph.size_bytes),
            "code": _kib(case.runtime.code_bytes),
            "target": case.target.id,
            "has": _kib(has * KIB),
        }


def constraint_ram(case: Case) -> Reasons:
    """needs {needs} KiB of RAM ({parts}), {target} has {has}"""
    has = case.target.memory.ram_kib
    parts = {"arena": case.arena_bytes, "runtime": runtime_ram_bytes(case.graph, case.runtime)}
    if not case.on_mcu:
        parts["model"] = case.graph.size_bytes
    needs = sum(parts.values())
    if has is not None and needs > has * KIB:
        yield {
            "needs": _kib(needs),
            "parts": " + ".join(f"{name} {_kib(size)}" for name, size in parts.items()),
            "target": case.target.id,
            "has": _kib(has * KIB),
        }


def constraint_flex(case: Case) -> Reasons:
    """needs TensorFlow itself for {ops}, and {runtime} does not contain it"""
    names = _custom(case, flex=True)
    if names and not case.runtime.flex:
        yield {"ops": names}


def constraint_custom_ops(case: Case) -> Reasons:
    """{runtime} knows no custom operators, and the model has {ops}"""
    names = _custom(case, flex=False)
    if names and not case.runtime.custom_ops:
        yield {"ops": names}


def constraint_operators(case: Case) -> Reasons:
    """{runtime} has no operator {op} ({count} in the model, first '{layer}')"""
    found: dict[str, list[str]] = {}
    for operator, where, _ in case.forms:
        if operator.name != "DENSIFY" and not _has(case, operator.name):
            found.setdefault(operator.name, []).append(where)
    for name, layers in found.items():
        yield {"op": shown(name), "count": len(layers), "layer": layers[0]}


def constraint_sparse_weights(case: Case) -> Reasons:
    """{runtime} cannot unpack sparse weights ({count} DENSIFY operators, first '{layer}')"""
    layers = [where for operator, where, _ in case.forms if operator.name == "DENSIFY"]
    if layers and not _has(case, "DENSIFY"):
        yield {"count": len(layers), "layer": layers[0]}


def constraint_refused(case: Case) -> Reasons:
    """{runtime} refuses {form} ({count} in the model, first '{layer}')"""
    yield from _verdicts(case, "refused")


def constraint_wrong(case: Case) -> Reasons:
    """{runtime} computes wrong numbers for {form} ({count} in the model, first '{layer}')"""
    yield from _verdicts(case, "wrong")


def constraint_dynamic_shapes(case: Case) -> Reasons:
    """{runtime} needs fixed shapes, and only the run knows those of {count} tensors,
    first '{tensor}' {shape}
    """
    dynamic = [
        tensor
        for subgraph in case.graph.subgraphs
        for tensor in subgraph.tensors
        # A batch that is left open is one sample on a microcontroller, as the file states.
        if -1 in tensor.shape_signature[1:]
    ]
    if case.on_mcu and dynamic:
        first = dynamic[0]
        yield {
            "count": len(dynamic),
            "tensor": shown(first.name),
            "shape": list(first.shape_signature),
        }


def constraint_external_buffers(case: Case) -> Reasons:
    """{runtime} reads garbage for {count} constants whose {kib} KiB lie outside the flatbuffer"""
    outside = [
        tensor
        for subgraph in case.graph.subgraphs
        for tensor in subgraph.tensors
        if tensor.external
    ]
    if case.on_mcu and outside:
        size = sum(tensor.stored_bytes for tensor in outside)
        yield {"count": len(outside), "kib": _kib(size)}


def constraint_dtypes(case: Case) -> Reasons:
    """{runtime} has no kernels for {dtype} ({count} tensors, first '{tensor}')"""
    if not case.on_mcu:
        return
    tensors = [tensor for subgraph in case.graph.subgraphs for tensor in subgraph.tensors]
    for dtype in sorted(MCU_REFUSED & {tensor.dtype for tensor in tensors}):
        of_it = [tensor for tensor in tensors if tensor.dtype == dtype]
        yield {"dtype": dtype, "count": len(of_it), "tensor": shown(of_it[0].name)}


CONSTRAINTS: tuple[Callable[[Case], Reasons], ...] = (
    constraint_arch,
    constraint_flash,
    constraint_ram,
    constraint_flex,
    constraint_custom_ops,
    constraint_operators,
    constraint_sparse_weights,
    constraint_refused,
    constraint_wrong,
    constraint_dynamic_shapes,
    constraint_external_buffers,
    constraint_dtypes,
)


def _has(case: Case, name: str) -> bool:
    """Whether the runtime has a builtin operator."""
    return case.runtime.operators is None or name in case.runtime.operators


def _verdicts(case: Case, verdict: str) -> Reasons:
    """The forms that the runtime's table gives ``verdict``, each once."""
    found: dict[Row, list[str]] = {}
    for operator, where, shape in case.forms:
        row = case.runtime.verdict(
            operator.name, shape.activations, shape.weights, shape.granularity, operator.version
        )
        if row is not None and row.verdict == verdict:
            found.setdefault(row, []).append(where)
    for row, layers in found.items():
        yield {"form": _describe(row), "count": len(layers), "layer": layers[0]}


def _describe(row: Row) -> str:
    """``CONV_2D with float32 activations and per-channel int8 weights``."""
    if row.weights == "none":
        return f"{row.op} with {row.activations} activations"
    shared = "" if row.granularity == "none" else f"{row.granularity} "
    return f"{row.op} with {row.activations} activations and {shared}{row.weights} weights"


def _custom(case: Case, *, flex: bool) -> str:
    """The names of the custom operators of one sort, joined."""
    found = {
        shown(operator.name)
        for subgraph in case.graph.subgraphs
        for operator in subgraph.operators
        if operator.custom
        and operator.flex == flex
        and operator.name not in case.runtime.custom_operators
    }
    return ", ".join(sorted(found))


def _kib(size: float) -> str:
    return f"{size / KIB:.1f}"
