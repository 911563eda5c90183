"""Weight pruning: small weights become zero and stay it (Han et al. 2015; Zhu & Gupta 2017)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray

from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.constraints import Constraint, Mask, Palette, Signs
from edgepack.passes.fit import fit, told
from edgepack.passes.layers import channel_axes, is_depthwise, kind, values, variable, weights
from edgepack.passes.network import read, rebuild
from edgepack.passes.patterns import Bools, Pattern, kept, matrix, polynomial, tensor
from edgepack.spec.fields import FORBID, Count, Fraction, Natural, Positive


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which weights go, and when.

    ``sparsity`` is the fraction of the chosen layers' weights that is zero at the end, at least:
    with ``scope`` ``layer`` of each layer, with ``global`` of all of them in one ranking.
    ``pattern`` is ``unstructured``; ``2:4``: of each group of 4 weights of an output channel that
    lie next to each other along the reduction axis (the input channel fastest, then width, then
    height) at most 2 are not zero, of a shorter last group at most half; or ``block``: blocks of
    ``block`` = [neighbours along the reduction, neighbouring output channels] go as one.
    ``schedule`` ``polynomial`` raises the sparsity from ``initial`` between the fractions
    ``begin`` and ``end`` of the training, every ``every`` updates, fast at first and slower and
    slower with a larger ``power``; ``constant`` prunes all at ``begin``. Layers with fewer
    weights than ``smallest`` stay dense, and depthwise ones without ``depthwise``.
    """

    __pydantic_config__ = FORBID
    sparsity: Annotated[float, Interval(ge=0, lt=1)] = 0.5
    pattern: Pattern = "unstructured"
    block: tuple[Count, Count] | None = None
    scope: Literal["layer", "global"] = "global"
    schedule: Literal["polynomial", "constant"] = "polynomial"
    initial: Fraction = 0.0
    begin: Fraction = 0.0
    end: Fraction = 0.5
    every: Count = 10
    power: Positive = 3.0
    smallest: Natural = 0
    depthwise: bool = False

    def __post_init__(self) -> None:
        if self.pattern == "2:4" and self.sparsity != 0.5:
            raise ValueError(f"2:4 is a sparsity of 0.5, not {self.sparsity}: leave it out")
        if (self.pattern == "block") != (self.block is not None):
            raise ValueError("block = [r, c] goes with pattern = 'block'")
        if self.end < self.begin:
            raise ValueError(f"the schedule ends at {self.end}, before it begins at {self.begin}")
        if self.initial > self.sparsity:
            raise ValueError(f"initial {self.initial} is above the final {self.sparsity}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """A weight to prune: its Keras layer and name, its output channels' axes, what is left of it
    by an earlier mask."""

    layer: Any
    weight: str
    axes: tuple[int, ...]
    keep: Bools


def apply(candidate: Candidate, options: Options, context: Context) -> Candidate:
    """Prune a copy of the model, during the step's training or, without one, at once."""
    model = rebuild(read(candidate.model))
    skipped: list[tuple[str, str]] = []
    targets = list(_targets(model, options, context, candidate.constraints, skipped))
    names = {(target.layer.name, target.weight) for target in targets}
    others = [c for c in candidate.constraints if (c.layer, c.weight) not in names]
    guide = Pruning(targets, options)
    history = fit(model, context, label="sparse", constraints=others, guides=[guide])
    guide.prune(options.sparsity)
    masks = [
        Mask(layer=target.layer.name, weight=target.weight, keep=keep)
        for target, keep in zip(targets, guide.masks, strict=True)
    ]
    return candidate.then(
        "sparse",
        model,
        changed=[*(_described(mask) for mask in masks), *told(history)],
        skipped=skipped,
        constraints=[*others, *masks],
    )


def _targets(
    model: Any,
    options: Options,
    context: Context,
    constraints: Sequence[Constraint],
    skipped: list[tuple[str, str]],
) -> Iterator[Target]:
    """The weights to prune; the layers that are left go to ``skipped``."""
    bound = {(c.layer, c.weight): c for c in constraints}
    for layer in model.layers:
        if not weights(layer):
            if any(len(weight.shape) > 1 for weight in layer.trainable_weights):
                skipped.append((layer.name, f"{kind(layer)} is not pruned"))
            continue
        if not context.select(layer):
            skipped.append((layer.name, "not selected"))
            continue
        for name in weights(layer):
            found, earlier = values(layer, name), bound.get((layer.name, name))
            if why := _reason(layer, name, found.size, earlier, options):
                skipped.append((layer.name, why))
                continue
            yield Target(
                layer=layer,
                weight=name,
                axes=channel_axes(layer, name),
                keep=earlier.keep if isinstance(earlier, Mask) else np.ones(found.shape, bool),
            )


def _reason(
    layer: Any, name: str, size: int, earlier: Constraint | None, options: Options
) -> str | None:
    """Why a weight stays as it is."""
    if is_depthwise(layer, name) and not options.depthwise:
        return "depthwise weights are few and each counts: set depthwise = true"
    if size < options.smallest:
        return f"{size} weights, fewer than {options.smallest}"
    if isinstance(earlier, Palette):
        return "its weights share a palette: prune before clustering"
    if isinstance(earlier, Signs):
        return "its weights are signs: prune before binary or ternary"
    return None


def _described(mask: Mask) -> str:
    name = mask.layer if mask.weight == "kernel" else f"{mask.layer} {mask.weight}"
    share = 1 - mask.keep.mean()
    return f"{name}: {100 * share:.1f} % of {mask.keep.size} weights are zero"


class Pruning:
    """Prunes on schedule and keeps zeros zero. A weight that was pruned stays pruned."""

    def __init__(self, targets: Sequence[Target], options: Options) -> None:
        import tensorflow as tf

        self.targets, self.options = targets, options
        self.settled = not targets
        self.masks = [target.keep for target in targets]
        self.kernels = [variable(target.layer, target.weight) for target in targets]
        stays = [tf.Variable(keep, trainable=False) for keep in self.masks]

        def project() -> None:
            for kernel, stay in zip(self.kernels, stays, strict=True):
                kernel.assign(tf.where(stay, kernel.value, tf.zeros_like(kernel.value)))

        self._stays = stays
        self._project = tf.function(project, autograph=False) if stays else project
        self._project()

    def prune(self, sparsity: float) -> None:
        """Leave out the fraction ``sparsity``, by the weights' magnitudes now."""
        options = self.options
        # What is out already ranks below all the rest, so that nothing comes back.
        found = [
            matrix(np.where(keep, np.abs(kernel.numpy().astype(np.float64)), -1.0), target.axes)
            for target, keep, kernel in zip(self.targets, self.masks, self.kernels, strict=True)
        ]
        chosen = kept(
            found,
            sparsity,
            pattern=options.pattern,
            block=options.block or (1, 1),
            together=options.scope == "global",
        )
        self._set(
            [
                keep & tensor(stay, keep.shape, target.axes)
                for target, keep, stay in zip(self.targets, self.masks, chosen, strict=True)
            ]
        )

    def _set(self, masks: Sequence[Bools]) -> None:
        self.masks = list(masks)
        for stay, keep in zip(self._stays, masks, strict=True):
            stay.assign(keep)
        self._project()

    def before(self, done: int, total: int) -> None:
        """Prune where the schedule says so."""
        sparsity = due(self.options, done, total)
        if sparsity is not None:
            self.prune(sparsity)

    def after(self, done: int, total: int) -> None:
        """Zeros again where the update moved them."""
        self._project()
        self.settled = done > last_due(self.options, total)

    def state(self) -> dict[str, NDArray[Any]]:
        """The masks; and the options, so that a training with others is not gone on with."""
        masks = {f"mask{place}": keep for place, keep in enumerate(self.masks)}
        return {**masks, "options": np.array(repr(self.options))}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """The masks again."""
        self._set([state[f"mask{place}"].astype(bool) for place in range(len(self.targets))])


def due(options: Options, done: int, total: int) -> float | None:
    """The sparsity to prune to before update ``done`` of ``total``; None where none is due."""
    begin, end = min(int(options.begin * total), total - 1), last_due(options, total)
    if options.schedule == "constant":
        return options.sparsity if done == end else None
    if not begin <= done <= end or ((done - begin) % options.every and done != end):
        return None
    share = (done - begin) / (end - begin) if end > begin else 1.0
    return polynomial(share, initial=options.initial, final=options.sparsity, power=options.power)


def last_due(options: Options, total: int) -> int:
    """How many of ``total`` updates are done when the weights are pruned for the last time."""
    share = options.begin if options.schedule == "constant" else options.end
    return min(int(share * total), total - 1)
