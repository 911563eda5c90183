"""Whether each weight is better rounded up or down, learned from what the layer should answer.

Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
STRETCH = 0.1
WARM = 0.2
SHARP, SOFT = 2.0, 20.0
PART = 1024
HELD = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """One layer: ``weights`` (groups, inputs, outputs) to be multiples of ``step``.

    ``inputs`` (rows, groups, inputs) enter the rounded layer, which should answer ``answers``
    (rows, groups · outputs) before ``activation``; errors are counted after it. Integers are at
    most ``top``. ``step`` broadcasts over the weights.
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
    """The integers (of the weights' shape), the bias that goes with them, and mean squared errors.

    ``nearest`` is that of the nearest integers with the bias as it was, ``learned`` that of these.
    """

    integers: NDArray[np.int32]
    bias: Floats
    nearest: float
    learned: float


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long and how hard to learn; ``pull`` draws undecided weights to up or down."""

    iterations: int
    rate: float
    pull: float
    batch: int
    seed: int


def learned(task: Task, effort: Effort) -> Rounded:
    """The integers that answer best with a bias that fits, or the nearest ones if those do.

    Weights that are zero, and those at or beyond the ends of the grid, are not moved. The last
    eighth of the rows is not learned from: the errors are counted there, if there are enough.
    """
    count = len(task.inputs) - len(task.inputs) // HELD
    held = _part(task, slice(count if count < len(task.inputs) else 0, None))
    task = _part(task, slice(0, count))
    plain = nearest(task)
    base = error(held, plain, task.bias)
    best = Rounded(integers=plain, bias=task.bias, nearest=base, learned=base)
    found = [plain]
    free = (task.weights != 0) & (np.abs(_scaled(task)) < task.top * (1 - 1e-6))
    if base > 0 and free.any():
        found.append(_learned(task, effort, free, base))
    for integers in found:
        bias = (task.bias - _shift(task, integers)).astype(np.float32)
        off = error(held, integers, bias)
        if off < best.learned:
            best = replace(best, integers=integers, bias=bias, learned=off)
    return best


def _part(task: Task, rows: slice) -> Task:
    return replace(task, inputs=task.inputs[rows], answers=task.answers[rows])


def _learned(task: Task, effort: Effort, free: NDArray[np.bool_], base: float) -> NDArray[np.int32]:
    import tensorflow as tf

    scaled = _scaled(task)
    low = np.where(free, np.floor(scaled), nearest(task)).astype(np.float32)
    share = np.clip((scaled - low + STRETCH) / (1 + 2 * STRETCH), 1e-4, 1 - 1e-4)
    logits = tf.Variable(np.log(share / (1 - share)).astype(np.float32))
    first, second = tf.Variable(tf.zeros_like(logits)), tf.Variable(tf.zeros_like(logits))
    moving = tf.constant(free, tf.float32)
    inputs, answers = tf.constant(task.inputs), tf.constant(task.answers)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def update(chosen: Any, sharpness: Any, pull: Any, count: Any) -> None:
        wanted = tf.gather(answers, chosen)
        with tf.GradientTape() as tape:
            up = tf.clip_by_value(tf.sigmoid(logits) * (1 + 2 * STRETCH) - STRETCH, 0.0, 1.0)
            made = _product(tf.gather(inputs, chosen), (low + moving * up) * task.step) + task.bias
            made -= tf.reduce_mean(made - wanted, 0)  # the bias will see to the mean
            off = tf.reduce_sum((task.activation(made) - task.activation(wanted)) ** 2, 1)
            undecided = tf.reduce_sum(moving * (1 - tf.abs(2 * up - 1) ** sharpness))
            loss = tf.reduce_mean(off) / base + pull * undecided / tf.reduce_sum(moving)
        slope = tape.gradient(loss, logits)
        first.assign(0.9 * first + 0.1 * slope)
        second.assign(0.999 * second + 0.001 * slope**2)
        size = tf.sqrt(second / (1 - 0.999**count)) + 1e-12
        logits.assign_sub(effort.rate * first / (1 - 0.9**count) / size)

    rng = np.random.default_rng(effort.seed)
    for done in range(effort.iterations):
        late = max(done / effort.iterations - WARM, 0.0) / (1 - WARM)
        sharpness = SHARP + (SOFT - SHARP) * 0.5 * (1 + np.cos(late * np.pi))
        given = (sharpness, effort.pull if late > 0 else 0.0, done + 1.0)
        chosen = rng.integers(0, len(task.inputs), effort.batch)
        update(tf.constant(chosen), *(tf.constant(value, tf.float32) for value in given))
    made: NDArray[np.int32] = (low + free * (logits.numpy() > 0)).astype(np.int32)
    return made


def nearest(task: Task) -> NDArray[np.int32]:
    """The nearest integers."""
    made: NDArray[np.int32] = np.rint(_scaled(task)).astype(np.int32)
    return made


def error(task: Task, integers: NDArray[Any], bias: Floats) -> float:
    """The mean squared error of the layer's answers, summed over its channels."""
    total = 0.0
    for made, wanted in _answered(task, integers):
        off = task.activation(made + bias) - task.activation(wanted)
        total += float(np.sum(np.asarray(off, np.float64) ** 2))
    return total / len(task.inputs)


def _shift(task: Task, integers: NDArray[Any]) -> NDArray[np.float64]:
    """What rounding adds to each channel's mean answer before the activation."""
    total = sum(
        np.sum(np.asarray(made + task.bias - wanted, np.float64), 0)
        for made, wanted in _answered(task, integers)
    )
    found: NDArray[np.float64] = np.asarray(total / len(task.inputs))
    return found


def _answered(task: Task, integers: NDArray[Any]) -> Iterator[tuple[Any, Any]]:
    """(what the layer answers without bias, what it should answer with it), part by part."""
    kernel = (integers * task.step).astype(np.float32)
    for start in range(0, len(task.inputs), PART):
        part = slice(start, start + PART)
        yield _product(task.inputs[part], kernel), task.answers[part]


def linear(inputs: Floats, weights: Floats, bias: Floats) -> Floats:
    """What a layer answers to rows before its activation: (rows, groups · outputs)."""
    parts = [
        np.asarray(_product(inputs[start : start + PART], weights)) + bias
        for start in range(0, len(inputs), PART)
    ]
    return np.concatenate(parts)


def _scaled(task: Task) -> NDArray[Any]:
    made: NDArray[Any] = np.clip(task.weights / task.step, -task.top, task.top)
    return made


def _product(rows: Any, kernel: Any) -> Any:
    """(rows, groups, inputs) times (groups, inputs, outputs), as (rows, groups · outputs)."""
    import tensorflow as tf

    made = tf.einsum("rgk,gko->rgo", rows, kernel)
    return tf.reshape(made, [tf.shape(rows)[0], kernel.shape[0] * kernel.shape[2]])
