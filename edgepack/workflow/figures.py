"""What a Keras model is worth: the figures that a recipe's steps are held against."""

from __future__ import annotations

import logging
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from edgepack.errors import ModelError
from edgepack.export import to_float
from edgepack.export.learned import learned
from edgepack.files import gzip_size
from edgepack.graph.cost import cost
from edgepack.graph.facts import signatures
from edgepack.graph.parse import parse
from edgepack.graph.plan import plan
from edgepack.measuring.inputs import smooth_inputs
from edgepack.model.data import Data
from edgepack.model.load import Model
from edgepack.model.metrics import Metric
from edgepack.model.predict import predict
from edgepack.passes.candidate import Costs
from edgepack.runtimes import child
from edgepack.workflow import artefact

log = logging.getLogger(__name__)
RUNS, SECONDS = 50, 0.2
Figures = dict[str, float]
"""``params``, ``macs``; ``size_bytes``, ``gzip_bytes`` and planned ``arena_bytes`` of a file;
``latency_host_us``, the median of a short run on one thread of this host; ``quality``."""


def of_content(content: bytes, name: str) -> Figures:
    """The figures of a flatbuffer, without its quality."""
    graph = parse(content, name)
    spent = cost(graph)
    found = {
        "params": float(spent.params),
        "macs": float(spent.macs),
        "size_bytes": float(len(content)),
        "gzip_bytes": float(gzip_size(content)),
        "arena_bytes": float(plan(graph).arena_bytes),
    }
    with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
        path = Path(folder) / f"{name}.tflite"
        path.write_bytes(content)
        inputs = smooth_inputs(signatures(graph)[0].inputs, 1, seed=0)
        try:
            taken = child.timed(path, inputs, child.HOST, runs=RUNS, seconds=SECONDS)
        except ModelError as error:  # what cannot run here has no latency here
            log.debug("no latency on this host: %s", error.message)
            return found
    return {**found, "latency_host_us": statistics.median(taken)}


def of_model(
    model: Model, quality: Callable[[Model], float] | None, *, allow_flex: bool = False
) -> Figures:
    """The figures of a Keras model: of its float export, and its own ``quality`` if asked for."""
    found = of_content(plain(model, allow_flex=allow_flex), model.name)
    return {**found, "quality": quality(model)} if quality is not None else found


def plain(model: Model, *, allow_flex: bool = False) -> bytes:
    """The float export, without the fake-quant nodes that a ``qat`` left."""
    content = to_float(model, allow_flex=allow_flex)
    rounded = learned(content, model)
    return content if rounded is None else rounded.content


def scored(model: Model, evaluation: Data, metric: Callable[[], Metric]) -> float:
    """The metric of a Keras model over the evaluation set."""
    return artefact.score(partial(predict, model), evaluation, metric(), "evaluate what was made")


@dataclass(frozen=True, kw_only=True, eq=False)
class Exporting:
    """What passes ask for the cost of a Keras model that takes and gives what ``like`` does."""

    like: Model
    allow_flex: bool = False

    def __call__(self, model: Any) -> Costs:
        """Of its float export: about a second."""
        content = plain(replace(self.like, keras=model), allow_flex=self.allow_flex)
        graph = parse(content, self.like.name)
        spent = cost(graph)
        return Costs(cost=spent, size_bytes=spent.weight_bytes, arena_bytes=plan(graph).arena_bytes)
