"""Weight sharing: k values a layer or a channel, found by k-means, trained on (Han et al. 2015)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Interval

from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.constraints import Constraint, Mask, Palette, Signs
from edgepack.passes.fit import fit, told
from edgepack.passes.kmeans import Start, nearest, palette
from edgepack.passes.layers import (
    channel_axes,
    is_depthwise,
    kind,
    shared_axes,
    values,
    variable,
    weights,
)
from edgepack.passes.network import read, rebuild
from edgepack.passes.orient import orient
from edgepack.passes.patterns import Bools, matrix, tensor
from edgepack.spec.fields import FORBID, Natural

QUANTISED = ("dynamic", "int8", "int16x8", "int4", "mixed")
TOP = 127
SCALED_AT_LEAST = 4
"""Clusters: two are the ends of the range."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How many values, and who shares them.

    ``clusters`` values for each ``layer`` or for each output ``channel`` (``per``); zeros that an
    earlier mask holds are one of them. ``start`` is where k-means begins: evenly over the range
    (``linear``), over the values' ranks (``density``), or ``kmeans++``. ``grid`` says in what a
    layer shares them: ``float`` in its weights; ``int8`` in its weights over their channel's
    largest, so that a file with a scale per channel has at most that many distinct integers a
    tensor; ``auto`` takes ``int8`` where the recipe's scheme quantises weights. Layers with fewer
    weights than ``smallest`` are left, and depthwise ones with ``depthwise = false``.
    """

    __pydantic_config__ = FORBID
    clusters: Annotated[int, Interval(ge=2, le=256)] = 16
    per: Literal["layer", "channel"] = "layer"
    start: Start = "kmeans++"
    grid: Literal["auto", "float", "int8"] = "auto"
    smallest: Natural = 0
    depthwise: bool = True

    def __post_init__(self) -> None:
        if self.grid == "int8" and self.clusters < SCALED_AT_LEAST:
            raise ValueError(
                f"grid 'int8' needs {SCALED_AT_LEAST} clusters: two are the ends of the range"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """A weight to cluster: its Keras layer and name, and what an earlier mask keeps of it."""

    layer: Any
    weight: str
    keep: Bools | None

    @property
    def variable(self) -> Any:
        """The Keras variable."""
        return variable(self.layer, self.weight)


def apply(candidate: Candidate, options: Options, context: Context) -> Candidate:
    """Cluster a copy of the model's weights, and train the shared values if the step trains."""
    model = rebuild(read(candidate.model))
    skipped: list[tuple[str, str]] = []
    targets = list(_targets(model, options, context, candidate.constraints, skipped))
    scaled = options.per == "layer" and _scaled(options, context)
    if scaled:
        orient(model, {target.layer.name for target in targets})
    rng = np.random.default_rng((context.seed, 3))
    made = [_clustered(target, options, scaled, rng) for target in targets]
    names = {(found.layer, found.weight) for found in made}
    others = [
        c
        for c in candidate.constraints
        if not isinstance(c, Palette) or (c.layer, c.weight) not in names
    ]
    history = fit(model, context, label="cluster", constraints=[*others, *made])
    if scaled:
        _round(targets)
    return candidate.then(
        "cluster",
        model,
        changed=[*(_described(t, options, scaled) for t in targets), *told(history)],
        skipped=skipped,
        constraints=[*others, *made],
    )


def _scaled(options: Options, context: Context) -> bool:
    if options.grid == "auto":
        return context.scheme in QUANTISED and options.clusters >= SCALED_AT_LEAST
    return options.grid == "int8"


def _targets(
    model: Any,
    options: Options,
    context: Context,
    constraints: Sequence[Constraint],
    skipped: list[tuple[str, str]],
) -> Iterator[Target]:
    """The weights to cluster; the layers that are left go to ``skipped``."""
    for layer in model.layers:
        if not weights(layer):
            if any(len(weight.shape) > 1 for weight in layer.trainable_weights):
                skipped.append((layer.name, f"{kind(layer)} is not clustered"))
            continue
        if not context.select(layer):
            skipped.append((layer.name, "not selected"))
            continue
        for name in weights(layer):
            size = values(layer, name).size
            earlier = [c for c in constraints if (c.layer, c.weight) == (layer.name, name)]
            if is_depthwise(layer, name) and not options.depthwise:
                skipped.append((layer.name, "depthwise weights, which depthwise = false leaves"))
            elif size < options.smallest:
                skipped.append((layer.name, f"{size} weights, fewer than {options.smallest}"))
            elif any(isinstance(c, Signs) for c in earlier):
                skipped.append((layer.name, "its weights are signs: at most 3 values already"))
            else:
                masks = [c.keep for c in earlier if isinstance(c, Mask)]
                yield Target(layer=layer, weight=name, keep=masks[0] if masks else None)


def _clustered(target: Target, options: Options, scaled: bool, rng: np.random.Generator) -> Palette:
    """The palette's indices for a weight; its variable takes the palette's values."""
    layer, name = target.layer, target.weight
    axes = channel_axes(layer, name)
    kernel = values(layer, name).astype(np.float64)
    keep = np.ones(kernel.shape, bool) if target.keep is None else target.keep
    rows, stays = matrix(kernel * keep, axes), matrix(keep, axes)
    count = options.clusters - (not keep.all())
    scale = np.abs(rows).max(1, keepdims=True) if scaled else np.ones((len(rows), 1))
    stays = stays & (scale > 0)
    ratio = np.divide(rows, scale, out=np.zeros_like(rows), where=scale > 0)
    index = np.full(rows.shape, -1, np.int32)
    groups = [stays]
    if options.per == "channel":
        groups = [stays & (np.arange(len(rows)) == row)[:, None] for row in range(len(rows))]
    for group in groups:
        if not group.any():
            continue
        found = palette(
            ratio[group], count, start=options.start, rng=rng, ends=(-1.0, 1.0) if scaled else None
        )
        place = nearest(ratio[group], found)
        if scaled:  # a palette in channel scales has its ends first: -1 at 0, 1 at 1
            place = np.array([0, *range(2, len(found)), 1])[place]
        index[group] = place + index.max() + 1
    made = Palette(
        layer=layer.name,
        weight=name,
        index=tensor(index, kernel.shape, axes),
        axes=shared_axes(layer, name) if scaled else None,
    )
    target.variable.assign(made.project(target.variable.value))
    return made


def _round(targets: Sequence[Target]) -> None:
    """Whole 127ths of each channel's largest weight, so that none lies between two integers."""
    for target in targets:
        kernel = values(target.layer, target.weight).astype(np.float64)
        axes = shared_axes(target.layer, target.weight)
        step = np.abs(kernel).max(axes, keepdims=True) / TOP
        whole = np.rint(np.divide(kernel, step, out=np.zeros_like(kernel), where=step > 0))
        target.variable.assign((whole * step).astype(np.float32))


def _described(target: Target, options: Options, scaled: bool) -> str:
    kernel = values(target.layer, target.weight)
    name = target.layer.name
    name += "" if target.weight == "kernel" else f" {target.weight}"
    axes = channel_axes(target.layer, target.weight)
    rows = matrix(kernel, axes)
    if options.per == "channel":
        most = max(len(np.unique(row)) for row in rows)
        return f"{name}: {kernel.size} weights share at most {most} values a channel"
    if scaled:
        top = np.abs(rows).max(1, keepdims=True)
        rows = np.rint(TOP * np.divide(rows, top, out=np.zeros_like(rows), where=top > 0))
        return f"{name}: {kernel.size} weights share {len(np.unique(rows))} integers"
    return f"{name}: {kernel.size} weights share {len(np.unique(rows))} values"
