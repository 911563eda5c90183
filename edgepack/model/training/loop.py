"""The loop itself: epochs of updates, judged, written down, and gone on with.

The same seed and data give the same weights on one machine with the same number of threads, also
after an interruption: what a step draws depends on (seed, epoch, step) or on state that is
written down after each epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.errors import ModelError
from edgepack.events import step as progress
from edgepack.model.data import Data
from edgepack.model.metrics import Metric
from edgepack.model.training import checkpoint as files
from edgepack.model.training.batches import Batches, split
from edgepack.model.training.hooks import Hooks
from edgepack.model.training.judge import Best, judge, lower_is_better
from edgepack.model.training.optimizer import make_optimizer
from edgepack.model.training.seams import Guide, History, Objective
from edgepack.model.training.state import State
from edgepack.model.training.update import answering, losing, updating
from edgepack.spec.steps import Training

LOOK_EVERY = 16
"""Updates between looks at the loss."""


def train(
    model: Any,
    data: Data,
    training: Training,
    objective: Objective,
    *,
    seed: int,
    guides: Sequence[Guide] = (),
    hooks: Hooks | None = None,
    checkpoint: Path | None = None,
    label: str = "train",
) -> History:
    """Train a Keras model in place by its trainable variables.

    Where ``training`` has patience, the best epoch's weights are kept. ``checkpoint`` says where
    finished epochs are written down (see ``edgepack.model.training.checkpoint``); the caller
    discards them. Raises DataError where there are too few samples, ModelError where the loss is
    not finite, SpecError where a user's function fails.
    """
    run = _Run(model, data, training, objective, seed, guides, hooks or Hooks(), label)
    return run.to_the_end(checkpoint)


class _Run:
    """One training: its parts, and its epochs."""

    def __init__(
        self,
        model: Any,
        data: Data,
        training: Training,
        objective: Objective,
        seed: int,
        guides: Sequence[Guide],
        hooks: Hooks,
        label: str,
    ) -> None:
        import keras

        keras.utils.set_random_seed(seed)
        _seed_layers(model, seed)
        self.data, self.training, self.guides, self.label = data, training, guides, label
        self.metric: Callable[[], Metric | None] = hooks.metric or (lambda: None)
        share = training.holdout if training.patience or hooks.metric else 0.0
        self.rows, self.held = split(len(data), share, seed, data.spec.id)
        dtypes = tuple(str(tensor.dtype) for tensor in model.inputs)
        self.batches = Batches(data, training.batch_size, seed, dtypes, hooks.augment)
        self.each = self.batches.count(len(self.rows))
        self.total = training.epochs * self.each
        variables = [*model.trainable_variables, *objective.variables]
        if not variables:
            raise ModelError(f"{label}: {model.name} has no weights to train", "unfreeze some")
        optimizer = make_optimizer(training, self.total, variables)
        self.update = updating(model, objective, variables, optimizer, hooks)
        self.answer, self.lose = answering(model), losing(objective)
        self.state = State(
            model=model,
            others=[*objective.variables, *optimizer.variables],
            guides=guides,
            best=Best(lower=lower_is_better(self.metric()), patience=training.patience),
            words=(repr(training), str(seed), label, objective.identity, hooks.identity),
        )

    def to_the_end(self, checkpoint: Path | None) -> History:
        """Every epoch that is not done yet."""
        state, epochs = self.state, self.training.epochs
        file = None
        if checkpoint is not None:
            file = files.place(checkpoint, state.fingerprint(self.data.digest))
            state.load(file)
        with progress(self.label, total=self.total) as advance:
            advance(len(state.losses) * self.each)
            if not state.losses:
                self._judge(0)
            while len(state.losses) < epochs and not state.best.is_over(len(state.losses)):
                means = self._epoch(len(state.losses), advance)
                state.losses.append(means["loss"])
                self._judge(len(state.losses))
                if file is not None:
                    state.write(file)
                advance(0, self._told(len(state.losses), means))
        if state.best.epoch >= 0:
            state.bring_back(state.best.arrays)
        return History(
            losses=tuple(state.losses),
            held_back=tuple(state.held_back[1:]),
            judged_by=self.training.metric or "loss",
            best=state.best.epoch if state.best.epoch >= 0 else None,
            stopped_early=len(state.losses) < epochs,
        )

    def _epoch(self, epoch: int, advance: Callable[..., None]) -> Mapping[str, float]:
        """The updates of an epoch; the means of their figures."""
        seen: list[dict[str, Any]] = []
        done = epoch * self.each
        for batch in self.batches.epoch(self.rows, epoch):
            for guide in self.guides:
                guide.before(done, self.total)
            seen.append(self.update(batch))
            done += 1
            for guide in self.guides:
                guide.after(done, self.total)
            if len(seen) % LOOK_EVERY == 0:
                advance(1, self._told(epoch + 1, self._means(seen, epoch)))
            else:
                advance(1)
        return self._means(seen, epoch)

    def _means(self, seen: list[dict[str, Any]], epoch: int) -> dict[str, float]:
        """The figures' means so far. Raises ModelError where the loss is not finite."""
        means = {name: float(np.mean([float(f[name]) for f in seen])) for name in seen[0]}
        if not math.isfinite(means["loss"]):
            raise ModelError(
                f"{self.label}: the loss became {means['loss']} in epoch {epoch + 1}",
                "train with a smaller learning_rate, or set clip_norm",
            )
        return means

    def _judge(self, epoch: int) -> None:
        """Judge the weights after an epoch by the held-back part, and remember the best."""
        if not len(self.held):
            return
        value = judge(self.batches.plain(self.held), self.metric(), self.answer, self.lose)
        self.state.held_back.append(value)
        if self.training.patience and all(getattr(g, "settled", False) for g in self.guides):
            self.state.best.see(value, epoch, self.state.snapshot)

    def _told(self, epoch: int, means: Mapping[str, float]) -> str:
        """Figures for people."""
        words = [f"epoch {epoch}/{self.training.epochs}"]
        words += [f"{name} {value:.3g}" for name, value in means.items()]
        if self.state.held_back:
            judged_by = self.training.metric or "loss"
            words.append(f"held-back {judged_by} {self.state.held_back[-1]:.3g}")
        return ", ".join(words)


def _seed_layers(model: Any, seed: int) -> None:
    """Give every layer that draws, such as Dropout, a seed of its own."""
    drawing = [v for v in model.variables if v.name == "seed_generator_state"]
    for place, state in enumerate(drawing):
        drawn = np.random.default_rng((seed, 4, place)).integers(1 << 31)
        state.assign(np.array([drawn, 0], state.dtype))
