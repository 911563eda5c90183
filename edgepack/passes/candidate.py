"""What travels through the passes: a Keras model, what it must keep, and what was done to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from edgepack.model.data import Data
from edgepack.passes.constraints import Constraint
from edgepack.records import Cost, Skipped, StepRecord
from edgepack.spec.steps import Distillation, Training


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A Keras model on its way; ``constraints`` hold for its weights, by layer and weight name.

    A pass never changes the model that it was given: it works on a copy.
    """

    model: Any
    constraints: tuple[Constraint, ...] = ()
    steps: tuple[StepRecord, ...] = ()

    def then(
        self,
        name: str,
        model: Any,
        *,
        changed: Iterable[str],
        skipped: Iterable[tuple[str, str]] = (),
        constraints: Sequence[Constraint] | None = None,
    ) -> Candidate:
        """The candidate after a step: ``changed`` in words, ``skipped`` as (layer, why).

        Without ``constraints`` those so far go on.
        """
        record = StepRecord(
            name=name,
            changed=tuple(changed),
            skipped=tuple(Skipped(layer=layer, why=why) for layer, why in skipped),
        )
        kept = self.constraints if constraints is None else tuple(constraints)
        return replace(self, model=model, constraints=kept, steps=(*self.steps, record))


class Costing(Protocol):
    """What one inference of a Keras model costs once exported."""

    def __call__(self, model: Any) -> Costs:
        """Trace and convert the model: about a second."""
        ...


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Of a float export: MACs and parameters, bytes of weights, and the planned arena's bytes."""

    cost: Cost
    size_bytes: int
    arena_bytes: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """What a pass works with.

    ``teacher`` is the recipe's original Keras model. ``scheme`` is what the recipe exports in;
    the weights of the operators in ``alike`` then share one step a tensor.
    ``select`` says of a layer whether the step may touch it. ``train`` learns, ``calibration``
    is looked at, both without being judged by. ``checkpoint`` is a file that a training which
    was interrupted goes on from. ``channels`` is the multiple of channels that the target's
    kernels like. ``code`` says whether functions in ``folder`` may be run.
    """

    teacher: Any
    scheme: str
    select: Callable[[Any], bool]
    alike: frozenset[str] = frozenset()
    seed: int = 0
    train: Data | None = None
    calibration: Data | None = None
    training: Training | None = None
    distill: Distillation | None = None
    cost: Costing | None = None
    channels: int = 1
    checkpoint: Path | None = None
    folder: Path = Path()
    code: bool = False

    @property
    def samples(self) -> Data | None:
        """What a pass that needs no labels looks at: calibration data, else training data."""
        return self.calibration if self.calibration is not None else self.train
