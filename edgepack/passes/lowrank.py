"""Low-rank factorisation: large kernels become products of small ones, where that costs less."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.chains import Piece, names, replaced, without
from edgepack.passes.fit import fit, trained
from edgepack.passes.layers import KERNELS, kind, values, variable
from edgepack.passes.moments import Moments, patch_moments
from edgepack.passes.network import Call, Network, read
from edgepack.passes.ranks import METHODS, Choices, Places, by_budget, by_energy, by_vbmf, choices
from edgepack.passes.splits import moment, refusal, split
from edgepack.spec.fields import FORBID

Share = Annotated[float, Interval(gt=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which factors, and how many.

    ``method``: ``svd`` makes a Dense layer two, a convolution one with fewer filters and a 1×1
    (Zhang et al. 2015); ``spatial`` makes a 2-D convolution a vertical and a horizontal one
    (Jaderberg et al. 2014); ``tucker`` a 1×1, a small core and a 1×1 (Kim et al. 2016); ``auto``
    takes for each layer what keeps most at its cost. ``rank``: ``budget`` keeps the share
    ``keep`` of all the model's ``measure``, with rank where it brings most; ``energy`` keeps that
    share of each layer's energy; ``vbmf`` keeps what stands out of the noise (Nakajima et al.
    2013). ``data`` makes factors go by the energy of the layer's outputs on samples, if there are
    any, instead of the weights': that keeps far more accuracy.
    """

    __pydantic_config__ = FORBID
    method: Literal["auto", "svd", "spatial", "tucker"] = "auto"
    rank: Literal["budget", "energy", "vbmf"] = "budget"
    keep: Share = 0.7
    measure: Literal["params", "macs"] = "params"
    energy: Share = 0.9
    data: bool = True


def apply(candidate: Candidate, options: Options, context: Context) -> Candidate:
    """Factorise what costs less in factors, then train if the step trains."""
    network = read(candidate.model)
    chosen, skipped = _layers(network, context)
    moments = _moments(network, chosen, options, context)
    tables = {
        name: choices(
            values(call.layer),
            places(network, name),
            METHODS[1:] if options.method == "auto" else (options.method,),
            multiple=context.channels,
            second=moment(call.layer, moments.get(name)),
        )
        for name, call in chosen.items()
    }
    total = cost(network, options.measure)
    rows = _rows(chosen, tables, options, total)
    chains: dict[str, list[Piece]] = {}
    changed = []
    for name, row in rows.items():
        table = tables[name]
        if row == 0:
            skipped.append((name, _why(table, options)))
            continue
        method, ranks = METHODS[table.method[row]], table.ranks[row]
        named = names(network, name, 3 if method == "tucker" else 2)
        known = moments.get(name)
        chains[name], lost = split(chosen[name].layer, method, ranks, named, known)
        wide = " and ".join(str(rank) for rank in ranks if rank)
        changed.append(
            f"{name}: {method} of rank {wide}, {table.params[0]} → {table.params[row]} weights, "
            f"{table.macs[0]} → {table.macs[row]} MACs, "
            f"{100 * (1 - lost):.1f} % of the {'outputs' if known else 'weights'}' energy kept"
        )
    left = total - sum(
        int(tables[name].cost(options.measure)[0] - tables[name].cost(options.measure)[rows[name]])
        for name in chains
    )
    if options.rank == "budget" and left > options.keep * total:
        changed.append(
            f"{100 * left / total:.0f} % of the {options.measure} left, {100 * options.keep:.0f} % "
            "asked: these layers cannot be made smaller"
        )
    if chains and options.data and context.samples is None:
        changed.append("the weights decide: there are no samples to look at")
    model = replaced(network, chains)
    constraints, words = without(candidate.constraints, chains)
    history = fit(model, context, label="lowrank", constraints=constraints)
    return candidate.then(
        "lowrank",
        model,
        changed=[*changed, *words, *trained(history)],
        skipped=skipped,
        constraints=constraints,
    )


def _layers(network: Network, context: Context) -> tuple[dict[str, Call], list[tuple[str, str]]]:
    """The layers to factorise by name, and those with weights that are not, with the reason."""
    chosen: dict[str, Call] = {}
    skipped: dict[str, str] = {}
    for call in network.calls:
        weights = getattr(call.layer, "weights", [])
        if call.name in chosen or not any(len(weight.shape) > 1 for weight in weights):
            continue
        why = refusal(call.layer)
        if not context.select(call.layer):
            why = "not selected"
        if why is None:
            chosen[call.name] = call
        else:
            skipped[call.name] = why
    return chosen, list(skipped.items())


def _moments(
    network: Network, chosen: Mapping[str, Call], options: Options, context: Context
) -> dict[str, Moments]:
    if not options.data or context.samples is None or not chosen:
        return {}
    return patch_moments(network, chosen, context.samples)


def _rows(
    chosen: Mapping[str, Call], tables: Mapping[str, Choices], options: Options, total: int
) -> dict[str, int]:
    """The row that each layer takes."""
    if options.rank == "energy":
        return {name: by_energy(t, options.energy, options.measure) for name, t in tables.items()}
    if options.rank == "vbmf":
        return {
            name: by_vbmf(table, values(chosen[name].layer), options.measure)
            for name, table in tables.items()
        }
    fixed = total - sum(int(table.cost(options.measure)[0]) for table in tables.values())
    budget = math.floor(options.keep * total) - fixed
    return dict(zip(tables, by_budget(list(tables.values()), budget, options.measure), strict=True))


def _why(table: Choices, options: Options) -> str:
    """Why a layer stays as it is."""
    params, macs = table.params[0], table.macs[0]
    if len(table.method) == 1:
        return f"no factors of its {params} weights cost less ({macs} MACs)"
    if options.rank == "energy":
        best = 100 * (1 - table.lost[1:].min())
        return (
            f"factors that cost less than its {params} weights keep {best:.1f} % of the energy "
            f"at most, {100 * options.energy:.1f} % asked"
        )
    if options.rank == "vbmf":
        return f"at the rank that stands out of the noise, factors cost more than {params} weights"
    return f"the budget is met with its {params} weights as they are"


def places(network: Network, name: str) -> Places:
    """At how many positions a layer's kernel is applied; an open size counts as 1."""
    before = between = after = 0
    for call in network.calls:
        if call.name != name:
            continue
        source = call.inputs[0]
        given = network.producer(source).shapes[source.place][1:-1]
        made = call.shapes[0][1:-1]
        before += _positions(given)
        after += _positions(made)
        between += _positions((*made[:1], *given[1:]))
    return Places(before=before, between=between, after=after)


def _positions(shape: tuple[int | None, ...]) -> int:
    return math.prod(size or 1 for size in shape)


def cost(network: Network, measure: str) -> int:
    """All the network's parameters, or the MACs of its layers with kernels."""
    if measure == "params":
        layers = network.layers()
        weights = {id(w): w for layer in layers for w in getattr(layer, "weights", [])}
        return sum(math.prod(weight.shape) for weight in weights.values())
    total = 0
    for call in network.calls:
        if kind(call.layer) in KERNELS:
            total += math.prod(variable(call.layer).shape) * _applied(network, call)
    return total


def _applied(network: Network, call: Call) -> int:
    """At how many positions one call applies its kernel: of its input where it is transposed."""
    if kind(call.layer).endswith("Transpose"):
        source = call.inputs[0]
        return _positions(network.producer(source).shapes[source.place][1:-1])
    return _positions(call.shapes[0][1:-1])
