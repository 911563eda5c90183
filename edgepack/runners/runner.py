"""Drive one runtime on a device: what every runner does, and the table of runners."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from typing import Protocol as Structure

from numpy.typing import NDArray

from edgepack.errors import EdgepackError, MeasureError, SpecError
from edgepack.links.alone import alone
from edgepack.links.link import Link, connect, workspace
from edgepack.records import MeasuredMemory, OperatorTimes, RuntimeRecord
from edgepack.spec.device import Device
from edgepack.spec.target import Protocol

RUNNERS: Mapping[str, str] = {
    "litert-native": "edgepack.runners.litert_native:LiteRTNative",
    "litert-python": "edgepack.runners.litert_python:LiteRTPython",
    "tflite-runtime-python": "edgepack.runners.litert_python:TFLiteRuntimePython",
}
DEFAULT = "edgepack.runners.fallback:PythonElseNative"
DEFAULTS: Mapping[str, str] = {"adb": RUNNERS["litert-native"]}
"""The runner where none is named, by the device's link: phones have no Python."""


@dataclass(frozen=True, kw_only=True)
class Abilities:
    """What a runner can do; None is whatever its runtime can.

    ``dtypes`` are those of a model's inputs and outputs. ``threads`` is the most it can use.
    ``variables`` says whether it takes tensors that keep state, ``per_op`` whether it tells the
    time of single operators. ``instead`` is the runner to name for another arch.
    """

    name: str
    arches: tuple[str, ...] | None = None
    dtypes: frozenset[str] | None = None
    threads: int | None = None
    delegates: tuple[str, ...] = ("xnnpack",)
    variables: bool = True
    per_op: bool = False
    instead: str = ""


@dataclass(frozen=True, kw_only=True)
class Burst:
    """What the device did in one go: raw samples in µs, in the order in which they were taken.

    ``outputs`` are of the inputs that were given, each sample from a fresh state, stacked.
    ``settled`` says whether the speed had settled when the warm-up ended; None where it had too
    few runs to tell. ``failure`` says what ended it early; the other fields then hold what came
    before. ``refused`` says that the runtime did not take the model at all.
    """

    runtime: RuntimeRecord | None = None
    samples_us: tuple[float, ...] = ()
    warmup_runs: int = 0
    settled: bool | None = None
    init_us: float | None = None
    first_us: float | None = None
    memory: MeasuredMemory | None = None
    operators: OperatorTimes | None = None
    outputs: tuple[NDArray[Any], ...] = ()
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    failure: EdgepackError | None = None
    refused: bool = False


class Runner(Structure):
    """One runtime on one device, between ``prepare`` and the end of its workspace.

    Every call raises LinkError where the device is lost.
    """

    abilities: ClassVar[Abilities]

    def prepare(self, model: Path) -> None:
        """Find or deliver the runtime, and send the model. Raises MeasureError where it can't."""
        ...

    def about(self) -> dict[str, Any]:
        """What the device says of itself and does not change: cpu, kernel, memory, …"""
        ...

    def burst(
        self, inputs: Sequence[NDArray[Any]], protocol: Protocol, *, per_op: bool = False
    ) -> Burst:
        """Warm up, then measure single inferences on stacked samples, in turn.

        ``per_op`` asks for the times of single operators, taken after them, where the runner can.
        """
        ...

    def predict(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs of stacked samples. Raises MeasureError where the model fails there."""
        ...


def check_arch(abilities: Abilities, arch: str, device: str) -> None:
    """Raises MeasureError where a runner does not run on a device of that arch."""
    if abilities.arches is not None and arch not in abilities.arches:
        raise MeasureError(
            f"{abilities.name} does not run on {device}: it is {arch}, not one of "
            + ", ".join(abilities.arches),
            f"use the runner {abilities.instead}",
        )


def place_of(runner: str | None, link: str = "") -> str:
    """Where a runner's class stands; None is the best for a link. Raises SpecError."""
    if runner is not None and runner not in RUNNERS:
        raise SpecError(f"no runner has the id '{runner}'", "known: " + ", ".join(RUNNERS))
    return RUNNERS[runner] if runner else DEFAULTS.get(link, DEFAULT)


@contextmanager
def session(device: Device, model: Path, runner: str | None = None) -> Iterator[Runner]:
    """A runner with the model on the device; its workspace there is removed with the block.

    ``runner`` None is the best that the device has. Raises SpecError for an unknown runner,
    LinkError where the device cannot be reached, MeasureError where no runtime runs there.
    """
    with sessions(device, [model], runner) as (opened,):
        yield opened


@contextmanager
def sessions(
    device: Device, models: Sequence[Path], runner: str | None = None
) -> Iterator[tuple[Runner, ...]]:
    """A runner for each model, on one link and under one lock; see ``session``.

    They are to be used in turns. Each has a workspace of its own.
    """
    module, _, attribute = place_of(runner, device.link).partition(":")
    link: Link = connect(device)
    try:
        seconds = device.options.call_seconds
        root, patience = device.workspace, device.options.lock_seconds
        with alone(link, root, timeout_s=seconds, wait_s=patience) as held, ExitStack() as stack:
            made = []
            for model in models:
                place = stack.enter_context(workspace(held, root, timeout_s=seconds))
                opened: Runner = getattr(importlib.import_module(module), attribute)(
                    held, device, place
                )
                opened.prepare(model)
                made.append(opened)
            yield tuple(made)
    finally:
        link.close()
