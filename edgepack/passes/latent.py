"""Weights that compute coarsely and learn finely: the straight-through estimator.

A layer computes with coarse weights, a function of latent ones. The gradient with respect to the
coarse weights moves the latent ones (Courbariaux et al. 2015). The layers stay plain: their own
variables hold the coarse weights all the time, and what an update adds to these is moved on to
the latent ones after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Shadow:
    """A Keras variable that computes with ``coarse(latent)``."""

    variable: Any
    coarse: Callable[[Any], Any]


class Latent:
    """Keeps the latent weights of a training; a guide of the training loop.

    ``share(done, total)``, for each shadow in order, is how much of it is coarse before update
    ``done``, from 0 to 1; ``mix(latent, coarse, share)`` are the weights in between.
    ``identity`` says in words what all this is, so that a training with something else is not
    gone on with.
    """

    def __init__(
        self,
        shadows: Sequence[Shadow],
        share: Callable[[int, int], Sequence[float]],
        mix: Callable[[Any, Any, Any], Any],
        identity: str,
    ) -> None:
        import tensorflow as tf

        self.shadows, self.share, self.mix, self.identity = shadows, share, mix, identity
        self.settled = not shadows
        self._latent = [tf.Variable(s.variable.value, trainable=False) for s in shadows]
        self._shown = [tf.Variable(s.variable.value, trainable=False) for s in shadows]
        self._shares = [tf.Variable(0.0, trainable=False) for _ in shadows]
        self._learn, self._show = (
            tf.function(step, autograph=False) if shadows else step
            for step in (self._learnt, self._computed)
        )

    def before(self, done: int, total: int) -> None:
        """More of the weights coarse, where it is time."""
        self._grow(self.share(done, total))

    def after(self, done: int, total: int) -> None:
        """The update moves the latent weights, and these the coarse ones."""
        self._learn()
        self._show()
        self.settled = done >= total or min(self.share(done, total), default=1.0) >= 1.0

    def finish(self) -> None:
        """All weights coarse, from what they are now: best weights may have been brought back."""
        for shadow in self.shadows:
            shadow.variable.assign(shadow.coarse(shadow.variable.value))

    def state(self) -> dict[str, NDArray[Any]]:
        """The latent weights and how much was coarse."""
        found = {f"latent{place}": kept.numpy() for place, kept in enumerate(self._latent)}
        shares = np.array([share.numpy() for share in self._shares], np.float32)
        return {**found, "shares": shares, "identity": np.array(self.identity)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """The latent weights again, and the coarse ones from them."""
        for place, (latent, share) in enumerate(zip(self._latent, self._shares, strict=True)):
            latent.assign(state[f"latent{place}"])
            share.assign(state["shares"][place])
        self._show()

    def _grow(self, wanted: Sequence[float]) -> None:
        now = [float(share.numpy()) for share in self._shares]
        if np.allclose(now, wanted, rtol=0, atol=1e-6):
            return
        for share, value in zip(self._shares, wanted, strict=True):
            share.assign(value)
        self._show()

    def _learnt(self) -> None:
        for shadow, latent, shown in zip(self.shadows, self._latent, self._shown, strict=True):
            latent.assign_add(shadow.variable.value - shown)

    def _computed(self) -> None:
        for shadow, latent, shown, share in zip(
            self.shadows, self._latent, self._shown, self._shares, strict=True
        ):
            made = self.mix(latent.value(), shadow.coarse(latent.value()), share.value())
            shown.assign(made)
            shadow.variable.assign(made)
