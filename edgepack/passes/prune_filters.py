"""Filters and neurons that matter little are removed: the network really becomes smaller."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated

from annotated_types import Interval

from edgepack.passes.budget import Budget, bounds
from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.compensate import Repair, compensated
from edgepack.passes.fit import fit, kept_epochs
from edgepack.passes.importance import Criterion, importance
from edgepack.passes.layers import DEPTHWISE, kind
from edgepack.passes.network import read
from edgepack.passes.prices import Of
from edgepack.passes.slicing import cut_constraints, cut_model
from edgepack.passes.ties import MAKERS, trace
from edgepack.passes.units import Units
from edgepack.spec.fields import FORBID, Count, Fraction


@dataclass(frozen=True, kw_only=True)
class Options:
    """How much stays, and what goes first.

    ``keep`` of the ``of`` stay in the whole network: ``macs``, ``params``, ``bytes`` of weights,
    or bytes of the ``arena``. ``criterion`` ranks the filters (see ``importance``); it looks at
    up to ``samples`` samples. ``rounds`` cut a part each and train between, the last one longest.
    Layers keep multiples of ``multiple`` filters, by default what the target's kernels like, at
    least ``min_channels``, and at least 1 - ``max_cut`` of those they had. ``repair`` tells
    readers of removed channels what these told: ``mean`` adds their mean to the bias, ``regress``
    also what channels that stay know of them; with ``none`` they are zero.
    """

    __pydantic_config__ = FORBID
    keep: Annotated[float, Interval(gt=0, le=1)] = 0.5
    of: Of = "macs"
    criterion: Criterion = "taylor"
    rounds: Count = 1
    samples: Count = 512
    multiple: Count | None = None
    min_channels: Count = 2
    max_cut: Fraction = 0.8
    repair: Repair = "regress"


def apply(candidate: Candidate, options: Options, context: Context) -> Candidate:
    """Cut in rounds, train after each; what cannot be cut is told with its reason."""
    model, constraints = candidate.model, candidate.constraints
    units = trace(read(model), context.select)
    skipped = list(_left(units))
    if not units.groups:
        return candidate.then("prune-filters", model, changed=(), skipped=skipped)
    before = _widths(units)
    limits = bounds(
        units,
        least=options.min_channels,
        max_cut=options.max_cut,
        multiple=options.multiple or context.channels,
    )
    budget = Budget(model, units, options.of, context.cost)
    words: list[str] = []
    epochs = 0
    for share, inner in _rounds(options.keep, options.rounds, context):
        scores = importance(units, model, options.criterion, inner, options.samples)
        choice = budget.choice(units, scores, share, limits)
        weights = {}
        if context.samples is not None:
            weights = compensated(
                units,
                choice.kept,
                options.repair,
                context.samples,
                options.samples,
                {constraint.layer for constraint in constraints},
            )
        model = cut_model(units, choice.kept, weights)
        constraints, lost = cut_constraints(constraints, units, choice.kept)
        words += lost
        history = fit(model, inner, label="prune-filters", constraints=constraints)
        epochs += kept_epochs(history)
        units = trace(read(model), lambda layer: layer.name not in dict(skipped))
        budget.measure(model, units)
    told = f"{options.of} {budget.before:,.0f} → {budget.now:,.0f}"
    if not choice.met:
        why = f"{told}, more than asked: max_cut, min_channels and multiple allow no more"
        skipped.append((candidate.model.name, why))
    if epochs:
        words.append(f"all weights, {epochs} epochs")
    changed, same = _compared(before, units, dict(skipped))
    return candidate.then(
        "prune-filters",
        model,
        changed=[*changed, *words, f"network: {told}"],
        skipped=[*skipped, *same],
        constraints=constraints,
    )


def _left(units: Units) -> Iterator[tuple[str, str]]:
    """Layers that are not cut, and why."""
    for call in units.makers:
        why = units.reason(call)
        if why is not None:
            yield call.name, why
    known = (*MAKERS, *DEPTHWISE)
    for layer in units.network.layers():
        kernels = [w for w in getattr(layer, "trainable_weights", ()) if len(w.shape) > 1]
        if kernels and kind(layer) not in known:
            yield layer.name, f"{kind(layer)} is not a kind of layer that this pass cuts"


def _rounds(keep: float, rounds: int, context: Context) -> Iterator[tuple[float, Context]]:
    """(share that stays, context) of each round: each cuts as much, the last trains longest."""
    training = context.training
    if training is None:
        yield from ((keep ** ((place + 1) / rounds), context) for place in range(rounds))
        return
    rounds = min(rounds, training.epochs)
    each = max(1, training.epochs // (2 * max(rounds - 1, 1)))
    for place in range(rounds):
        epochs = training.epochs - each * (rounds - 1) if place == rounds - 1 else each
        file = context.checkpoint
        if file is not None and place < rounds - 1:
            file = file.with_name(f"{file.stem}-{place + 1}{file.suffix}")
        yield (
            keep ** ((place + 1) / rounds),
            replace(context, training=replace(training, epochs=epochs), checkpoint=file),
        )


def _widths(units: Units) -> dict[str, tuple[str, int, int]]:
    """Of each layer with a kernel: its kind, how many channels it reads and how many it gives."""
    return {
        call.name: (
            kind(call.layer),
            len(units.of[call.inputs[0]]),
            len(units.of[call.output]),
        )
        for call in units.network.calls
        if kind(call.layer) in (*MAKERS, *DEPTHWISE)
    }


def _compared(
    before: Mapping[str, tuple[str, int, int]], units: Units, known: Mapping[str, str]
) -> tuple[list[str], list[tuple[str, str]]]:
    """What became of each layer with a kernel: (changed, left as it was)."""
    changed, same = [], []
    for name, (what, reads, gives) in _widths(units).items():
        _, had_read, had_given = before[name]
        noun = {"Dense": "neurons"}.get(what, "channels" if what in DEPTHWISE else "filters")
        if gives < had_given:
            changed.append(f"{name}: {had_given} → {gives} {noun}")
        elif what in MAKERS and name not in known:
            same.append((name, f"its {gives} {noun} matter more for their cost than others"))
        if reads < had_read and gives == had_given:
            changed.append(f"{name}: reads {had_read} → {reads} channels")
    return changed, same
