"""Optimizers and what becomes of the learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgepack.spec.steps import Training

MOMENTUM = 0.9


def make_optimizer(training: Training, total: int, variables: Sequence[Any]) -> Any:
    """A built Keras optimizer for ``total`` updates of ``variables``.

    The rate climbs linearly during ``warmup``, then falls to 0 along half a cosine or stays.
    Weight decay leaves biases and normalisation alone.
    """
    import keras

    warm = round(training.warmup * total)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0 if warm else training.learning_rate,
        max(total - warm, 1),
        alpha=0.0 if training.schedule == "cosine" else 1.0,
        warmup_target=training.learning_rate if warm else None,
        warmup_steps=warm,
    )
    clip = training.clip_norm
    decay = training.weight_decay
    optimizer: Any
    if training.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(
            rate, momentum=MOMENTUM, weight_decay=decay or None, global_clipnorm=clip
        )
    elif training.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, weight_decay=decay, global_clipnorm=clip)
    else:
        optimizer = keras.optimizers.Adam(rate, weight_decay=decay or None, global_clipnorm=clip)
    if decay:
        optimizer.exclude_from_weight_decay([v for v in variables if len(v.shape) < 2])
    optimizer.build(list(variables))
    return optimizer
