"""Soft targets: what the teacher's outputs teach beyond the right answer (Hinton et al. 2015)."""

from __future__ import annotations

from typing import Any

from edgepack.passes.ends import End

TINY = 1e-7


def logits(output: Any, end: End) -> Any:
    """What a probability came from, up to a constant for softmax; ``linear`` is that already.

    In a traced function the activation's own input is taken, which has lost nothing to rounding.
    """
    from keras import ops

    kind = {"softmax": "Softmax", "sigmoid": "Sigmoid"}.get(end)
    operation = getattr(output, "op", None)
    if kind and operation is not None and operation.type == kind:
        return ops.cast(operation.inputs[0], "float32")
    output = ops.cast(output, "float32")
    if end == "softmax":
        return ops.log(ops.maximum(output, TINY))
    if end == "sigmoid":
        output = ops.clip(output, TINY, 1 - TINY)
        return ops.log(output) - ops.log1p(-output)
    return output


def soft_loss(taught: Any, learned: Any, end: End, temperature: float, *, classes: bool) -> Any:
    """How far the student's output is from the teacher's: 0 where they agree. A scalar.

    ``taught`` and ``learned`` are logits. The Kullback-Leibler divergence at ``temperature``,
    times its square so that the gradients keep their size, for softmax and for logits of
    ``classes``; the binary one for sigmoid; the squared error for values.
    """
    from keras import ops

    if end == "linear" and not classes:
        return ops.mean(ops.square(learned - taught))
    scale = temperature * temperature
    taught, learned = taught / temperature, learned / temperature
    if end == "sigmoid":
        p = ops.sigmoid(taught)
        each = p * (ops.log_sigmoid(taught) - ops.log_sigmoid(learned)) + (1 - p) * (
            ops.log_sigmoid(-taught) - ops.log_sigmoid(-learned)
        )
        return scale * ops.mean(each)
    from_, to = ops.log_softmax(taught, -1), ops.log_softmax(learned, -1)
    return scale * ops.mean(ops.sum(ops.exp(from_) * (from_ - to), -1))
