"""The calibrator ``auto``: a few candidates, each judged on samples that it has not seen.

What the first half of the calibration data suggests is tried on the second, by its error before
a final softmax. Plain min-max is the yardstick; another way is taken only where it is clearly
better there, for the rest is chance, and a range drawn in too far costs most on new data. The
winner is then made anew from all the data, and the range that enters a softmax loses the part
that cannot matter. Measurements: docs/decisions/0007-quantisation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edgepack.export.calibrate import Calibrator, Range, ranges
from edgepack.export.decisive import decisive
from edgepack.export.observe import Statistics, Watched, feed, interpreter
from edgepack.graph.facts import tensor_spec
from edgepack.graph.parse import parse
from edgepack.graph.values import dequantise, quantise

CLEARLY = 0.95
NEGLIGIBLE = 12.0
"""exp(-12) is 6e-6, a seven-hundredth of the int8 softmax's own step."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to quantise: a calibrator, and whether biases make up for rounded weights."""

    calibrator: Calibrator
    percentile: float = 100.0
    correct_biases: bool = True

    def __str__(self) -> str:
        return self.calibrator + (" with corrected biases" if self.correct_biases else "")


PLAIN = Way(calibrator="minmax", correct_biases=False)
WAYS = (
    PLAIN,
    Way(calibrator="minmax"),
    Way(calibrator="percentile", percentile=99.999),
    Way(calibrator="mse"),
)
Make = Callable[[Way, Statistics, Mapping[str, Range]], bytes]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Quantised bytes, the way in which they were made, and the error of each way tried."""

    content: bytes
    way: Way
    errors: Mapping[str, float]


def automatic(watched: Watched, make: Make) -> Choice:
    """The best way's bytes; ``make`` turns a way, statistics and activation ranges into bytes."""
    errors = {
        way: decisive_error(make(way, watched.first, limits(way, watched.first)), watched)
        for way in WAYS
    }
    best = min(errors, key=lambda way: errors[way])
    if not errors[best] <= CLEARLY * errors[PLAIN]:
        best = PLAIN
    final = sharpened(limits(best, watched.whole), watched.whole.least_winner)
    return Choice(
        content=make(best, watched.whole, final),
        way=best,
        errors={str(way): error for way, error in errors.items()},
    )


def limits(way: Way, statistics: Statistics) -> dict[str, Range]:
    """The activation ranges that a way takes from statistics."""
    return ranges(statistics.seen, way.calibrator, way.percentile)


def sharpened(chosen: Mapping[str, Range], least_winner: Mapping[str, float]) -> dict[str, Range]:
    """The ranges, with those of logits cut where a softmax no longer sees a difference.

    A logit more than ``NEGLIGIBLE`` below the lowest winner counts for nothing after the
    exponential; the steps that it took make the winners sharper. New data may have lower
    winners, so at least the logits down to ``-NEGLIGIBLE`` stay.
    """
    cut = dict(chosen)
    for name, winner in least_winner.items():
        low, high = chosen[name]
        cut[name] = (max(low, min(winner, 0.0) - NEGLIGIBLE), high)
    return cut


def decisive_error(content: bytes, watched: Watched) -> float:
    """The mean squared error at the decisive tensors of a quantised file, over the kept samples.

    In real units. Infinite where the file has no such tensors any more.
    """
    main = parse(content, "model").main
    lite, wanted = interpreter(content), decisive(main)
    if len(wanted) != len(watched.answers[0]):
        return np.inf
    inputs = [tensor_spec(main.tensors[index]) for index in main.inputs]
    outputs = [tensor_spec(main.tensors[index]) for index in wanted]
    total, count = 0.0, 0
    for sample, answer in zip(watched.kept, watched.answers, strict=True):
        feed(lite, [quantise(v, spec) for v, spec in zip(sample, inputs, strict=True)])
        for spec, index, real in zip(outputs, wanted, answer, strict=True):
            found = dequantise(lite.get_tensor(index), spec)
            total += float(((found - real) ** 2).sum())
            count += real.size
    return total / max(count, 1)
