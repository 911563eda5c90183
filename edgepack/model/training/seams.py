"""What the training loop meets: an objective, guides, and the history that comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray


class Objective(Protocol):
    """What a training makes small.

    ``variables`` are trained beside the model's own: adapters of a distillation. ``identity``
    says in a few words what the loss depends on beside the model, its data and its training, so
    that an interrupted training of another loss is not gone on with.
    """

    @property
    def variables(self) -> Sequence[Any]:
        """Keras variables to train beside the model's."""
        ...

    @property
    def identity(self) -> str:
        """What tells this objective from others."""
        ...

    def loss(self, x: Sequence[Any], y: Any, *, training: bool) -> tuple[Any, Mapping[str, Any]]:
        """(the scalar to make small, figures to show) of one batch; ``y`` may be None."""
        ...


class Guide(Protocol):
    """What accompanies a training: schedules, masks, projections.

    ``before`` and ``after`` each update are told how many of how many are done. What it
    remembers beside the model's variables goes through ``state`` and ``restore``.

    A guide may also have ``settled``: False while what it does to the model is unfinished, such
    as a pruning schedule that still climbs. An epoch that ends unsettled is never taken for the
    best, nor does training stop early then. A guide without it never settles.
    """

    def before(self, done: int, total: int) -> None:
        """Before an update."""
        ...

    def after(self, done: int, total: int) -> None:
        """After an update; ``done`` counts it."""
        ...

    def state(self) -> dict[str, NDArray[Any]]:
        """What an interrupted training needs to go on."""
        ...

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what ``state`` gave."""
        ...


@dataclass(frozen=True, kw_only=True)
class History:
    """What each epoch came to.

    ``losses`` are means over training batches. ``held_back`` are values of ``judged_by`` on the
    held-back part, where there is one. ``best`` is the epoch whose weights were kept: 0 for
    those from before the training, None where nothing was held back or nothing could be judged;
    then the last epoch's were kept.
    """

    losses: tuple[float, ...]
    held_back: tuple[float, ...] = ()
    judged_by: str = "loss"
    best: int | None = None
    stopped_early: bool = False
