"""The search for the fewest layers that must be kept wide, each trial an export that is judged.

Layers are taken by what they lose beside what keeping them wide costs, one, two, four … of them,
until the limit holds; then as few as hold it are looked for between, and each is tried without.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from edgepack.errors import EdgepackError
from edgepack.events import step
from edgepack.export import export
from edgepack.graph.facts import facts
from edgepack.graph.parse import parse
from edgepack.model.data import Data
from edgepack.model.load import Model
from edgepack.model.metrics import Metric
from edgepack.model.predict import predict
from edgepack.records import Debug, LayerError, Trial
from edgepack.runtimes.tables import Runtime
from edgepack.spec.recipe import PlainScheme, Recipe, Selection
from edgepack.workflow import artefact
from edgepack.workflow.limit import Limit

MOST_WITHOUT = 8
"""So many layers are tried without at the end: each try is a whole export."""
CAUSE = 0.5
"""A share of a layer's error above which its cause must be kept wide too."""
FREE = 0.02
"""A cost below which none is minded: the cheapest layers are not taken for their price alone."""


@dataclass(frozen=True, kw_only=True)
class Patient:
    """What a rescue needs at hand; ``runtime`` is what the file is for, ``here`` what runs it.

    ``recipe`` is the one that the file was made by, where that is known.
    """

    model: Model
    content: bytes
    found: Debug
    calibration: Data
    evaluation: Data
    metric: Callable[[], Metric]
    limit: Limit
    runtime: Runtime
    here: str
    recipe: Recipe | None
    out: Path | None


@dataclass(frozen=True, kw_only=True)
class Search:
    """Trials of one rescue, each made once; ``tried`` holds them with the files they made."""

    patient: Patient
    scheme: PlainScheme
    tried: dict[tuple[PlainScheme, frozenset[str]], tuple[Trial, bytes]] = field(
        default_factory=dict
    )

    @cached_property
    def reference(self) -> float:
        """The metric of the float model."""
        run = partial(predict, self.patient.model)
        metric = self.patient.metric()
        return artefact.score(run, self.patient.evaluation, metric, "evaluate the model")

    @cached_property
    def before(self) -> float:
        """The metric of the file as it was given."""
        return self._score(self.patient.content, "evaluate the file")

    def holds(self, value: float | None) -> bool:
        """Whether a value meets the limit."""
        metric = self.patient.metric().name
        return value is not None and self.patient.limit.holds(metric, self.reference, value)

    def cheapest(self, wide: PlainScheme) -> Trial | None:
        """The fewest layers in ``wide`` that meet the limit; None where not even all do."""
        order = self._order(wide)
        sets = [tuple(dict.fromkeys(n for unit in order[: k + 1] for n in unit))
                for k in range(len(order))]  # fmt: skip
        low, high = -1, 0
        while sets and not self.holds(self.made_of(sets[high], wide).value):
            if high == len(sets) - 1:
                return None
            low, high = high, min(2 * high + 1, len(sets) - 1)
        if not sets:
            return None
        while high - low > 1:
            middle = (low + high) // 2
            if self.holds(self.made_of(sets[middle], wide).value):
                high = middle
            else:
                low = middle
        return self._thinned(sets[high], wide)

    def _thinned(self, layers: tuple[str, ...], wide: PlainScheme) -> Trial:
        """The trial without those layers that the limit does not need, the dearest first."""
        kept = list(layers)
        dearest = sorted(layers, key=lambda name: -self._cost(name, wide))
        for name in dearest[:MOST_WITHOUT]:
            fewer = tuple(other for other in kept if other != name)
            if fewer and self.holds(self.made_of(fewer, wide).value):
                kept = list(fewer)
        return self.made_of(tuple(kept), wide)

    def _order(self, wide: PlainScheme) -> list[tuple[str, ...]]:
        """Layers with those that their error is tied to; most loss for its cost first."""
        worst: dict[str, LayerError] = {}
        for row in self.patient.found.layers:
            if row.local_sqnr_db is None:
                continue
            known = worst.get(row.layer)
            if known is None or row.local_sqnr_db < (known.local_sqnr_db or 0.0):
                worst[row.layer] = row
        gain = {
            name: 10 ** (-(row.local_sqnr_db or 0.0) / 10) / (self._cost(name, wide) + FREE)
            for name, row in worst.items()
        }
        return [self._tied(worst[name]) for name in sorted(gain, key=lambda name: -gain[name])]

    def _tied(self, row: LayerError) -> tuple[str, ...]:
        """A tensor is wide only where what makes it and what reads it are."""
        names = [row.layer]
        if (row.from_input or 0.0) > CAUSE:
            names += row.reads
        if (row.from_output or 0.0) > CAUSE:
            names += [o.layer for o in self.patient.found.layers if row.layer in o.reads]
        return tuple(dict.fromkeys(names))

    def _cost(self, name: str, wide: PlainScheme) -> float:
        """The share of MACs that a layer has, and of bytes that it would add."""
        rows = [row for row in self.patient.found.layers if row.layer == name]
        macs = sum(row.macs for row in rows) / max(self._macs, 1)
        growth = {"float32": 3.0, "int8": 1.0}.get(wide, 0.0)
        return macs + growth * sum(row.weight_bytes for row in rows) / len(self.patient.content)

    @property
    def _macs(self) -> int:
        return sum(row.macs for row in self.patient.found.layers)

    @cached_property
    def _float_io(self) -> bool:
        main = parse(self.patient.content, self.patient.model.name).main
        return main.tensors[main.inputs[0]].dtype == "float32"

    def recipe(self, layers: Sequence[str], wide: PlainScheme) -> Recipe:
        """The mixed recipe that keeps these layers wide; without any, the plain one."""
        given = self.patient.recipe
        what = f"{self.scheme}, but {', '.join(layers)} in {wide}" if layers else self.scheme
        return Recipe(
            id=f"{self.patient.model.name}-rescued",
            description=f"{what}, so that {self.patient.limit.text} holds",
            scheme="mixed" if layers else self.scheme,
            io="float32" if self._float_io else "integer",
            calibrator=given.calibrator if given is not None else "auto",
            percentile=given.percentile if given is not None else 99.99,
            allow_flex=given.allow_flex if given is not None else False,
            mixed=tuple(Selection(layers=re.escape(name), scheme=wide) for name in layers),
            otherwise=self.scheme if layers else "int8",
        )

    def made(self, trial: Trial, wide: PlainScheme) -> bytes:
        """The file that a trial made."""
        return self.tried[wide, frozenset(trial.layers)][1]

    def made_of(self, layers: tuple[str, ...], wide: PlainScheme) -> Trial:
        """The trial with these layers in ``wide``; without any, the plain scheme anew."""
        key = (wide, frozenset(layers))
        if key not in self.tried:
            self.tried[key] = self._made(layers, wide)
        return self.tried[key][0]

    def _made(self, layers: tuple[str, ...], wide: PlainScheme) -> tuple[Trial, bytes]:
        recipe, patient = self.recipe(layers, wide), self.patient
        try:
            with step(f"try {len(layers)} layers in {wide}"):
                made = export(patient.model, recipe, patient.runtime, patient.calibration)
                value = self._score(made.content, f"evaluate {len(layers)} layers in {wide}")
        except EdgepackError as error:
            return Trial(
                layers=layers, value=None, size_bytes=None, scheme=wide, why=error.message
            ), b""
        return Trial(
            layers=layers, value=value, size_bytes=len(made.content), scheme=wide
        ), made.content

    def _score(self, content: bytes, label: str) -> float:
        with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
            path = Path(folder) / f"{self.patient.model.name}.tflite"
            path.write_bytes(content)
            run = artefact.function(path, facts(path).signatures[0], self.patient.here)
            return artefact.score(run, self.patient.evaluation, self.patient.metric(), label)
