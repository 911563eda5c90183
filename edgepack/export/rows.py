"""What was seen of each layer as one row: its errors, their sources, and what they suggest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from edgepack.export.spread import Error, Spread, ratio
from edgepack.export.suggest import suggestion
from edgepack.export.twins import Place
from edgepack.export.weights import CHANNEL_AXIS
from edgepack.graph.constants import values
from edgepack.graph.cost import operator_cost
from edgepack.graph.facts import tensor_spec
from edgepack.graph.types import BITS, Operator, Subgraph
from edgepack.graph.weights import Source, filter_of, form, sources
from edgepack.records import LayerError


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Running sums by exported operator; ``spreads`` by the float model's tensor."""

    places: tuple[Place, ...]
    output: Error = field(default_factory=Error)
    spreads: dict[int, Spread] = field(default_factory=dict)

    @cached_property
    def piled(self) -> dict[int, Error]:
        """The error of the whole file at each operator."""
        return {place.index: Error() for place in self.places}

    @cached_property
    def alone(self) -> dict[int, Error]:
        """The error of each operator alone; its signal is zero where that was not run."""
        return {place.index: Error() for place in self.places}

    @cached_property
    def from_input(self) -> dict[int, Error]:
        """What rounding its inputs makes of it."""
        return {place.index: Error() for place in self.places}

    @cached_property
    def from_output(self) -> dict[int, Error]:
        """What rounding its output makes of it."""
        return {place.index: Error() for place in self.places}

    def spread(self, tensor: int) -> Spread:
        """The spread of one tensor of the float model."""
        return self.spreads.setdefault(tensor, Spread())


def rows(
    evidence: Evidence, reference: Subgraph, exported: Subgraph, wide: str
) -> list[LayerError]:
    """A row for each operator, in the order in which they run.

    ``wide`` is the scheme wider than int8 that the file's runtime computes.
    """
    known = sources(exported), sources(reference)
    made = [_row(place, evidence, exported, known) for place in evidence.places]
    return [replace(row, suggestion=suggestion(row, wide)) for row in made]


def _row(
    place: Place,
    evidence: Evidence,
    exported: Subgraph,
    known: tuple[dict[int, Source], dict[int, Source]],
) -> LayerError:
    output = exported.tensors[place.operator.outputs[0]]
    spec, spent = tensor_spec(output), operator_cost(exported, place.operator, known[0])
    shape = form(exported, place.operator, known[0])
    source = filter_of(place.operator, known[0])
    piled, local = evidence.piled[place.index].record(spec.scale), evidence.alone[place.index]
    ran = local.signal > 0 or local.noise > 0
    shares = _shares(place, evidence)
    reads = _busiest(place, evidence, known[1])
    before = evidence.spreads.get(reads) if reads is not None else None
    after = evidence.spreads[place.twin.outputs[0]]
    return LayerError(
        sqnr_db=piled.sqnr_db,
        cosine=piled.cosine,
        max_abs=piled.max_abs,
        max_lsb=piled.max_lsb,
        layer=place.layer,
        op=place.operator.name,
        tensor=output.name,
        dtype=output.dtype,
        weights=source.tensor.dtype if source else None,
        granularity=shape.granularity,
        macs=spent.macs,
        weight_bytes=spent.weight_bytes,
        local_sqnr_db=local.sqnr_db if ran else None,
        from_input=shares[0] if shares else None,
        from_weights=shares[1] if shares else None,
        from_output=shares[2] if shares else None,
        input_range_ratio=before.range_ratio() if before else None,
        input_channel_ratio=before.channel_ratio if before else None,
        output_range_ratio=after.range_ratio(_span(spec.scale, output.dtype)),
        output_channel_ratio=after.channel_ratio,
        weight_channel_ratio=_weight_ratio(place.twin, known[1]),
        weight_sqnr_db=_weight_sqnr(source, filter_of(place.twin, known[1])),
        reads=place.reads,
    )


def _shares(place: Place, evidence: Evidence) -> tuple[float, float, float] | None:
    """Of the local error: from inputs, from weights and arithmetic, from the output."""
    whole = evidence.alone[place.index].noise
    first, last = evidence.from_input[place.index], evidence.from_output[place.index]
    if not (whole > 0 and np.isfinite(whole) and first.signal > 0 and np.isfinite(first.noise)):
        return None
    rest = max(whole - first.noise - last.noise, 0.0)
    total = first.noise + rest + last.noise
    return first.noise / total, rest / total, last.noise / total


def _busiest(place: Place, evidence: Evidence, known: Mapping[int, Source]) -> int | None:
    """Of the float tensors that an operator reads, that with the widest channels."""
    read = [i for i in place.twin.inputs if i >= 0 and i not in known and i in evidence.spreads]
    return max(read, key=lambda i: evidence.spreads[i].channel_ratio or 0.0, default=None)


def _span(scale: float | None, dtype: str) -> float | None:
    """The whole range of a quantised tensor in real units."""
    return scale * (2 ** BITS[dtype] - 1) if scale and dtype in ("int8", "uint8") else None


def _weight_ratio(operator: Operator, known: Mapping[int, Source]) -> float | None:
    """The largest weight channel over the median one, in the float model."""
    source, axis = filter_of(operator, dict(known)), CHANNEL_AXIS.get(operator.name)
    if source is None or axis is None or source.tensor.dtype != "float32":
        return None
    weights = np.abs(values(source.tensor).astype(np.float64))
    return ratio(weights.max(axis=tuple(i for i in range(weights.ndim) if i != axis)))


def _weight_sqnr(ours: Source | None, theirs: Source | None) -> float | None:
    """How far the exported weights are from the float model's; None where none can be compared."""
    if ours is None or theirs is None or theirs.tensor.dtype != "float32":
        return None
    mine, error = ours.tensor, Error()
    if mine.shape != theirs.tensor.shape or mine.granularity == "blockwise":
        return None
    real = values(mine).astype(np.float64)
    if (scaling := mine.quantisation) is not None and len(scaling.scales):
        shape = [-1 if axis == scaling.axis else 1 for axis in range(real.ndim)]
        per_tensor = len(scaling.scales) == 1
        scales, zeros = (
            a.reshape([1] * real.ndim if per_tensor else shape)
            for a in (scaling.scales.astype(np.float64), scaling.zero_points)
        )
        real = (real - zeros) * scales
    error.add(real, values(theirs.tensor))
    return error.sqnr_db
