"""A measurement: one artefact on one device, with every raw sample."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from edgepack.records.latency import (
    Comparison,
    Drift,
    Energy,
    Latency,
    OperatorTimes,
    Outliers,
    Sustained,
    ThreadRun,
)
from edgepack.records.shared import ErrorRecord, Quality, Record, Status


@dataclass(frozen=True, kw_only=True)
class DeviceRecord(Record):
    """A device and its state before and after a measurement."""

    id: str
    link: str
    target: str
    emulated: bool
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RuntimeRecord(Record):
    """The runtime that computed, as the device reports it."""

    name: str
    version: str
    threads: int
    delegate: str
    runner: str


@dataclass(frozen=True, kw_only=True)
class Instructions(Record):
    """Executed instructions of one inference, on a target that counts them."""

    n: int
    mean: float


@dataclass(frozen=True, kw_only=True)
class MeasuredMemory(Record):
    """Memory on the device; ``model_bytes`` is the model's own share of the peak."""

    peak_rss_bytes: int | None = None
    model_bytes: int | None = None
    arena_bytes: int | None = None
    stack_bytes: int | None = None
    flash_bytes: int | None = None
    code_bytes: int | None = None
    weights_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Agreement(Record):
    """The device's outputs against the host's, on the same inputs.

    ``max_abs`` is in real units; ``max_abs_lsb`` in steps of the output's quantisation, null
    for float outputs. ``top1_match`` is the share of samples with the same arg max.
    """

    samples: int
    max_abs: float | None = None
    max_abs_lsb: float | None = None
    top1_match: float | None = None
    first_divergence: str | None = None


@dataclass(frozen=True, kw_only=True)
class Measurement(Record):
    """One artefact on one device by one runner, with every raw sample.

    ``settled`` says whether the speed had settled when the warm-up ended. ``sweep`` holds the
    runs of a thread sweep, of which the fastest is the measurement itself. ``sustained``,
    ``against``, ``operators`` and ``energy`` are there where they were asked for.
    """

    artefact_sha256: str
    pack_sha256: str | None
    device: DeviceRecord
    started_at: str
    status: Status
    key: str = ""
    model: str = ""
    recipe: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    protocol: dict[str, float | str | tuple[int, ...] | None] = field(default_factory=dict)
    runtime: RuntimeRecord | None = None
    latency_us: Latency | None = None
    samples_us: tuple[float, ...] | None = None
    init_us: float | None = None
    first_us: float | None = None
    settled: bool | None = None
    outliers: Outliers | None = None
    drift: Drift | None = None
    sweep: tuple[ThreadRun, ...] = ()
    sustained: Sustained | None = None
    against: Comparison | None = None
    operators: OperatorTimes | None = None
    energy: Energy | None = None
    instructions: Instructions | None = None
    memory: MeasuredMemory | None = None
    agreement: Agreement | None = None
    quality: Quality | None = None
    notes: tuple[str, ...] = ()
    error: ErrorRecord | None = None
    schema: Literal["edgepack.measurement/1"] = "edgepack.measurement/1"
