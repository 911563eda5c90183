"""A width multiplier: every layer keeps the same share of its channels (Howard et al. 2017).

Unlike a fresh, narrower network it keeps the most important channels with their weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.compensate import compensated
from edgepack.passes.fit import fit, trained
from edgepack.passes.importance import Criterion, importance
from edgepack.passes.layers import DEPTHWISE, kind
from edgepack.passes.network import read
from edgepack.passes.slicing import Kept, cut_constraints, cut_model
from edgepack.passes.ties import MAKERS, trace
from edgepack.passes.units import Units
from edgepack.spec.fields import FORBID, Count

SAMPLES = 512


@dataclass(frozen=True, kw_only=True)
class Options:
    """How wide the network stays.

    ``alpha`` is the share of the channels that each free set of channels keeps, as a multiple of
    ``multiple`` (by default what the target's kernels like) and at least ``min_channels``.
    ``criterion`` says which are the most important ones, as in ``prune-filters``. Layers that
    read channels which went are refitted on samples, if there are any.
    """

    __pydantic_config__ = FORBID
    alpha: Annotated[float, Interval(gt=0, lt=1)] = 0.75
    multiple: Count | None = None
    min_channels: Count = 2
    criterion: Criterion = "l2"


def apply(candidate: Candidate, options: Options, context: Context) -> Candidate:
    """Cut every layer alike, then train if the step trains."""
    units = trace(read(candidate.model), context.select)
    kept = _kept(units, candidate.model, options, context)
    weights = {}
    bound = {constraint.layer for constraint in candidate.constraints}
    if context.samples is not None:
        weights = compensated(units, kept, "regress", context.samples, SAMPLES, bound)
    model = cut_model(units, kept, weights)
    constraints, words = cut_constraints(candidate.constraints, units, kept)
    changed = dict(_changed(units, kept))
    skipped = [
        (call.name, units.reason(call) or "it has too few channels to cut")
        for call in units.makers
        if kept[units.of[call.output]].all()
    ]
    refitted = [
        f"{name}: {'bias mended' if name in bound else 'refitted'} on samples" for name in weights
    ]
    history = fit(model, context, label="width", constraints=constraints)
    return candidate.then(
        "width",
        model,
        changed=[*changed.values(), *refitted, *words, *trained(history)],
        skipped=skipped,
        constraints=constraints,
    )


def _changed(units: Units, kept: Kept) -> Iterator[tuple[str, str]]:
    """(name, words) of each layer with a kernel that makes or reads fewer channels now."""
    for call in units.network.calls:
        if kind(call.layer) not in (*MAKERS, *DEPTHWISE):
            continue
        made, read_ = kept[units.of[call.output]], kept[units.of[call.inputs[0]]]
        if not made.all():
            yield call.name, f"{call.name}: {len(made)} → {made.sum()} channels"
        elif not read_.all():
            yield call.name, f"{call.name}: reads {read_.sum()} of {len(read_)} channels"


def _kept(units: Units, model: object, options: Options, context: Context) -> Kept:
    """Which units stay: of each group the same share, the most important ones."""
    kept = np.ones(units.count, bool)
    if not units.groups:
        return kept
    scores = importance(units, model, options.criterion, context, SAMPLES)
    multiple = options.multiple or context.channels
    for group in units.groups:
        wanted = max(options.alpha * len(group), options.min_channels)
        count = max(round(wanted / multiple), 1) * multiple
        order = group[np.argsort(-scores[group], kind="stable")]
        kept[order[count:]] = False
    return kept
