"""Whether each weight is better rounded up or down, learned from what the layer should answer.

Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
STRETCH = 0.1
WARM = 0.2
SHARP, SOFT = 2.0, 20.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """One layer: ``weights`` (groups, inputs, outputs) to be multiples of ``step``.

    ``inputs`` (rows, groups, inputs) enter the rounded layer, which should answer ``answers``
    (rows, groups · outputs) after ``bias`` and ``activation``. Integers are at most ``top``.
    ``step`` broadcasts over the weights.
    """

    weights: Floats
    step: Floats
    top: int
    bias: Floats
    inputs: Floats
    answers: Floats
    activation: Callable[[Any], Any]


@dataclass(frozen=True, kw_only=True)
class Rounded:
    """The integers (of the weights' shape), and the squared errors of nearest and learned ones."""

    integers: NDArray[np.int32]
    nearest: float
    learned: float


def learned(
    task: Task, *, iterations: int, rate: float, pull: float, batch: int, seed: int
) -> Rounded:
    """The integers that answer best, or the nearest ones where those are better.

    Weights that are zero, and those at or beyond the ends of the grid, are not moved.
    ``pull`` weighs how strongly undecided weights are drawn to up or down.
    """
    import tensorflow as tf

    scaled = _scaled(task)
    plain = nearest(task)
    fixed = (task.weights == 0) | (np.abs(scaled) >= task.top * (1 - 1e-6))
    floor = np.minimum(np.floor(scaled), task.top - 1)
    base = error(task, plain)
    if base <= 0 or fixed.all() or not iterations:
        return Rounded(integers=plain, nearest=base, learned=base)
    share = np.clip((scaled - floor + STRETCH) / (1 + 2 * STRETCH), 1e-4, 1 - 1e-4)
    logits = tf.Variable(np.log(share / (1 - share)).astype(np.float32))
    first, second = tf.Variable(tf.zeros_like(logits)), tf.Variable(tf.zeros_like(logits))
    free = tf.constant((~fixed).astype(np.float32))
    low, step = tf.constant(floor.astype(np.float32)), tf.constant(task.step, tf.float32)
    held = tf.constant((plain * fixed).astype(np.float32))
    inputs, answers = tf.constant(task.inputs), tf.constant(task.answers)
    bias = tf.constant(task.bias)
    drawn = tf.reduce_sum(free)

    @tf.function  # type: ignore[untyped-decorator]
    def update(chosen: Any, sharpness: Any, weight: Any, count: Any) -> None:
        with tf.GradientTape() as tape:
            up = tf.clip_by_value(tf.sigmoid(logits) * (1 + 2 * STRETCH) - STRETCH, 0.0, 1.0)
            made = (held + free * (low + up)) * step
            out = task.activation(_product(tf.gather(inputs, chosen), made) + bias)
            off = tf.reduce_sum((out - tf.gather(answers, chosen)) ** 2, 1)
            undecided = tf.reduce_sum(free * (1 - tf.abs(2 * up - 1) ** sharpness))
            loss = tf.reduce_mean(off) / base + weight * undecided / drawn
        slope = tape.gradient(loss, logits)
        first.assign(0.9 * first + 0.1 * slope)
        second.assign(0.999 * second + 0.001 * slope**2)
        size = tf.sqrt(second / (1 - 0.999**count)) + 1e-12
        logits.assign_sub(rate * first / (1 - 0.9**count) / size)

    rng = np.random.default_rng(seed)
    for done in range(iterations):
        late = max(done / iterations - WARM, 0.0) / (1 - WARM)
        sharpness = SHARP + (SOFT - SHARP) * 0.5 * (1 + np.cos(late * np.pi))
        chosen = rng.integers(0, len(task.inputs), batch)
        update(
            tf.constant(chosen),
            tf.constant(sharpness, tf.float32),
            tf.constant(pull if late > 0 else 0.0, tf.float32),
            tf.constant(done + 1.0, tf.float32),
        )
    integers = np.where(fixed, plain, floor + (logits.numpy() > 0))
    found = error(task, integers)
    if found >= base:
        return Rounded(integers=plain, nearest=base, learned=base)
    return Rounded(integers=integers.astype(np.int32), nearest=base, learned=found)


def nearest(task: Task) -> NDArray[np.int32]:
    """The nearest integers."""
    made: NDArray[np.int32] = np.rint(_scaled(task)).astype(np.int32)
    return made


def _scaled(task: Task) -> NDArray[Any]:
    made: NDArray[Any] = np.clip(task.weights / task.step, -task.top, task.top)
    return made


def error(task: Task, integers: NDArray[Any]) -> float:
    """The mean squared error of the layer's answers, summed over its channels."""
    import tensorflow as tf

    kernel = tf.constant((integers * task.step).astype(np.float32))
    total = 0.0
    for start in range(0, len(task.inputs), 1024):
        part = slice(start, start + 1024)
        out = task.activation(_product(tf.constant(task.inputs[part]), kernel) + task.bias)
        total += float(tf.reduce_sum((out - task.answers[part]) ** 2))
    return total / len(task.inputs)


def answers(
    inputs: Floats, weights: Floats, bias: Floats, activation: Callable[[Any], Any]
) -> Floats:
    """What a layer answers to rows: (rows, groups · outputs)."""
    import tensorflow as tf

    kernel = tf.constant(weights)
    parts = [
        activation(_product(tf.constant(inputs[start : start + 1024]), kernel) + bias).numpy()
        for start in range(0, len(inputs), 1024)
    ]
    return np.concatenate(parts)


def _product(rows: Any, kernel: Any) -> Any:
    """(rows, groups, inputs) times (groups, inputs, outputs), as (rows, groups · outputs)."""
    import tensorflow as tf

    made = tf.einsum("rgk,gko->rgo", rows, kernel)
    return tf.reshape(made, [tf.shape(rows)[0], kernel.shape[0] * kernel.shape[2]])
