"""Run a float flatbuffer over calibration data and watch its activations, sample by sample."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import DataError, ModelError
from edgepack.events import step
from edgepack.export.calibrate import Observed
from edgepack.export.decisive import decisive, softmax_inputs
from edgepack.export.weights import inputs_of
from edgepack.graph.parse import parse
from edgepack.graph.types import Subgraph
from edgepack.graph.values import carrier
from edgepack.model.data import Data
from edgepack.records import TensorSpec
from edgepack.runtimes import child

Sample = list[NDArray[Any]]
KEPT_SAMPLES = 256
KEPT_BYTES = 32 << 20


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What the float model's tensors took on, by tensor name.

    ``seen`` are all activations, ``means`` the channel means of what enters operators with
    weights, ``least_winner`` the lowest maximum along the last axis of what enters a softmax.
    """

    seen: dict[str, Observed]
    means: dict[str, NDArray[np.float64]]
    least_winner: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What the float model did on the calibration data.

    ``first`` are the statistics of the first half of the samples, ``whole`` those of all.
    ``kept`` are samples spread over the second half, bounded in number and bytes, and
    ``answers`` the values of the decisive tensors for them: so what the first half suggests can
    be judged by data that it has not seen.
    """

    samples: int
    first: Statistics
    whole: Statistics
    kept: list[Sample]
    answers: list[Sample]


class Watcher:
    """Runs a float flatbuffer sample by sample and gathers ``Statistics``; memory stays flat."""

    def __init__(self, content: bytes) -> None:
        main = parse(content, "model").main
        self.lite = interpreter(content)
        self.activations = _activations(main)
        known = set(self.activations.values())
        self.sources = {
            output: next((i for i in operator.inputs if i in known), None)
            for operator in main.operators
            for output in operator.outputs
        }
        self.decisive = decisive(main)
        self.logits = {main.tensors[index].name: index for index in softmax_inputs(main)}
        self.fed = inputs_of(main)
        self.seen = {name: Observed() for name in self.activations}
        self.sums: dict[str, Any] = {}
        self.winners: dict[str, float] = {}
        self.samples = 0

    def take(self, sample: Sample) -> None:
        """Run one sample. Raises ModelError where an activation is not finite."""
        feed(self.lite, sample)
        read = self.lite.get_tensor
        if self.samples == 0:
            self._find_unread()
        for name, index in self.activations.items():
            if not self.seen[name].add(read(index)):
                raise ModelError(
                    f"'{name}' becomes NaN or infinite on calibration sample {self.samples}",
                    "check the data's preprocessing and the model's weights",
                )
        for name, index in self.logits.items():
            winner = float(read(index).max(-1).min())
            self.winners[name] = min(winner, self.winners.get(name, winner))
        for name, (index, channels) in self.fed.items():
            mean = read(index).reshape(-1, channels).mean(0, dtype=np.float64)
            self.sums[name] = self.sums.get(name, 0.0) + mean
        self.samples += 1

    def _find_unread(self) -> None:
        """What no operator reads is never stored: a part of what its operator read stands in."""
        for name, index in list(self.activations.items()):
            try:
                self.lite.get_tensor(index)
            except ValueError:
                if (source := self.sources.get(index)) is None:
                    del self.activations[name], self.seen[name]
                else:
                    self.activations[name] = source

    def answer(self) -> Sample:
        """The decisive tensors of the sample taken last."""
        return [self.lite.get_tensor(index) for index in self.decisive]

    def statistics(self) -> Statistics:
        """What was gathered so far, independent of what comes."""
        return Statistics(
            seen=copy.deepcopy(self.seen),
            means={name: total / self.samples for name, total in self.sums.items()},
            least_winner=dict(self.winners),
        )


def watch(content: bytes, data: Data, specs: Sequence[TensorSpec], *, foreign: bool) -> Watched:
    """One pass over ``data`` (float, in the order of ``specs``) through a float flatbuffer.

    ``foreign`` content is run in a child process first, because it may abort the process that
    loads it. Raises DataError where there is no sample or one does not suit, ModelError where
    an activation is not finite or the model does not run.
    """
    if foreign:
        _proved(content, next(samples(data, specs), None), specs)
    watcher = Watcher(content)
    half, every = len(data) // 2, _spacing(len(data) - len(data) // 2, specs)
    first: Statistics | None = None
    kept: list[Sample] = []
    answers: list[Sample] = []
    with step("calibrate", total=len(data)) as advance:
        for place, sample in enumerate(samples(data, specs)):
            watcher.take(sample)
            if place + 1 == max(half, 1):
                first = watcher.statistics()
            if place >= half and (place - half) % every == 0:
                kept.append([value.copy() for value in sample])  # a view would keep its batch
                answers.append(watcher.answer())
            advance(1)
    if first is None:
        raise DataError("the calibration set is empty", "give at least one sample, better 200")
    return Watched(
        samples=watcher.samples,
        first=first,
        whole=watcher.statistics(),
        kept=kept,
        answers=answers,
    )


def samples(data: Data, specs: Sequence[TensorSpec]) -> Iterator[Sample]:
    """Each sample as a list of arrays with a batch of 1, in the model's input order and dtype."""
    for batch in data.batches(32):
        for values in zip(*batch.x, strict=True):
            if len(values) != len(specs):
                raise DataError(
                    f"the data has {len(values)} inputs, the model {len(specs)}",
                    "name one array for each input: x = [...]",
                )
            yield [_shaped(value, spec) for value, spec in zip(values, specs, strict=True)]


def _shaped(value: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    try:
        return np.ascontiguousarray(value, carrier(spec.dtype)).reshape(spec.shape)
    except ValueError as error:
        raise DataError(
            f"a sample of shape {value.shape} does not suit input '{spec.name}' {spec.shape[1:]}",
            "set size or choose other columns in the data description",
        ) from error


def interpreter(content: bytes) -> Any:
    """LiteRT's interpreter of trusted content, with every activation readable after a run."""
    from ai_edge_litert.interpreter import Interpreter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of the memory that this is about to cost
        try:
            lite = Interpreter(
                model_content=content, experimental_preserve_all_tensors=True, num_threads=1
            )
            lite.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"LiteRT cannot prepare the model: {error}".splitlines()[0]) from error
    return lite


def feed(lite: Any, sample: Sample) -> None:
    """Run one sample, given in the order of the file's inputs."""
    for detail, value in zip(lite.get_input_details(), sample, strict=True):
        lite.set_tensor(detail["index"], value)
    try:
        lite.invoke()
    except RuntimeError as error:
        raise ModelError(f"LiteRT cannot run the model: {error}".splitlines()[0]) from error


def _activations(main: Subgraph) -> dict[str, int]:
    """Name → index of every float32 tensor that is computed or fed."""
    touched = set(main.inputs)
    for operator in main.operators:
        touched |= set(operator.outputs)
    return {
        main.tensors[index].name: index
        for index in sorted(touched)
        if main.tensors[index].dtype == "float32" and not main.tensors[index].constant
    }


def _spacing(count: int, specs: Sequence[TensorSpec]) -> int:
    size = sum(int(np.prod(spec.shape)) * carrier(spec.dtype).itemsize for spec in specs)
    room = max(1, min(KEPT_SAMPLES, KEPT_BYTES // max(size, 1)))
    return max(1, -(-count // room))


def _proved(content: bytes, sample: Sample | None, specs: Sequence[TensorSpec]) -> None:
    if sample is None:
        return
    with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(content)
        child.infer(path, [value[None] for value in sample], child.HOST)
