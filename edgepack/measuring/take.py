"""Take one measurement: speed, memory, agreement, accuracy; what was had before a failure stays."""

# ruff: noqa: D102 - the fields of Burst are described where they are made

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any
from typing import Protocol as Structure

from numpy.typing import NDArray

from edgepack.errors import EdgepackError, LinkError
from edgepack.events import step
from edgepack.graph.values import unstacked
from edgepack.measuring.agreement import agreement
from edgepack.measuring.statistics import latency
from edgepack.records import (
    DeviceRecord,
    ErrorRecord,
    MeasuredMemory,
    Measurement,
    Quality,
    RuntimeRecord,
    Status,
    TensorSpec,
)
from edgepack.spec.device import Device
from edgepack.spec.target import Protocol

Arrays = Sequence[NDArray[Any]]
INTERRUPTED = 130
THROTTLED_NOW = 0b1111
"""The bits of a Raspberry Pi's ``get_throttled`` that speak of now: voltage, clock, heat."""


class Burst(Structure):
    """What a runner brings home from one burst; see ``edgepack.runners.runner.Burst``."""

    @property
    def runtime(self) -> RuntimeRecord | None: ...
    @property
    def samples_us(self) -> tuple[float, ...]: ...
    @property
    def init_us(self) -> float | None: ...
    @property
    def first_us(self) -> float | None: ...
    @property
    def memory(self) -> MeasuredMemory | None: ...
    @property
    def outputs(self) -> tuple[NDArray[Any], ...]: ...
    @property
    def before(self) -> dict[str, Any]: ...
    @property
    def after(self) -> dict[str, Any]: ...
    @property
    def failure(self) -> EdgepackError | None: ...
    @property
    def refused(self) -> bool: ...


class Session(Structure):
    """A runner with the model on the device; see ``edgepack.runners.runner.Runner``."""

    def about(self) -> dict[str, Any]:
        """What the device says of itself."""
        ...

    def burst(self, inputs: Arrays, protocol: Protocol) -> Burst:
        """Warm up and measure."""
        ...

    def predict(self, inputs: Arrays) -> list[NDArray[Any]]:
        """The outputs of stacked samples."""
        ...


class Metric(Structure):
    """A number over batches of real outputs and what they should be."""

    def update(self, outputs: Sequence[NDArray[Any]], y: NDArray[Any] | None) -> None:
        """Add real outputs, each (n, …)."""
        ...

    def compute(self) -> float | None:
        """The number."""
        ...


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Accuracy on the device: chunks of (stacked inputs as the model stores them, labels).

    ``quality`` is what is known of the model elsewhere; the device's figure is added to it.
    """

    chunks: Iterable[tuple[Arrays, NDArray[Any] | None]]
    metric: Metric
    quality: Quality


@dataclass(frozen=True, kw_only=True)
class Golden:
    """Inputs whose outputs are compared, stacked in the model's dtypes, in subgraph order.

    ``expected`` are the host's outputs; None where the host could not run the model.
    ``verify`` holds the device's outputs against the source model's, where the host could not:
    it returns a note, or raises MeasureError.
    """

    inputs: Arrays
    expected: Arrays | None
    outputs: Sequence[TensorSpec]
    verify: Callable[[Arrays], str] | None = None


def take(
    opened: Callable[[], AbstractContextManager[Session]],
    blank: Measurement,
    golden: Golden,
    protocol: Protocol,
    evaluation: Evaluation | None = None,
) -> Measurement:
    """``blank`` (see ``blank``) filled with what the device gave, whatever happens.

    ``opened`` reaches the device and puts the model there. An EdgepackError or Ctrl-C becomes
    the record's ``error`` and ``status`` (``unreachable``, ``failed``, ``unsupported``,
    ``interrupted``: the caller should then stop); what was measured before it is kept.
    """
    found = replace(blank, status="ok", protocol=asdict(protocol))
    try:
        with step(f"measure on {blank.device.id}"), opened() as session:
            found = _with_state(found, session.about())
            burst = session.burst(golden.inputs, protocol)
            found = _with_burst(found, burst, protocol)
            if burst.failure is not None:
                raise burst.failure
            found = _with_agreement(found, burst, golden)
            if golden.verify is not None:
                found = replace(found, notes=(*found.notes, golden.verify(burst.outputs)))
            if evaluation is not None:
                found = replace(found, quality=_quality(session, golden.outputs, evaluation))
    except KeyboardInterrupt:
        error = ErrorRecord(code=INTERRUPTED, message="interrupted", hint="")
        return replace(found, status="interrupted", error=error)
    except LinkError as error:
        return replace(found, status="unreachable", error=ErrorRecord.of(error))
    except EdgepackError as error:
        refused = found.status == "unsupported"
        status: Status = "unsupported" if refused else "failed"
        return replace(found, status=status, error=ErrorRecord.of(error))
    return found


def blank(
    device: Device,
    *,
    artefact_sha256: str,
    pack_sha256: str | None = None,
    key: str = "",
    model: str = "",
    recipe: str = "",
    versions: dict[str, str] | None = None,
) -> Measurement:
    """A measurement of an artefact on a device that has yet to be taken."""
    return Measurement(
        artefact_sha256=artefact_sha256,
        pack_sha256=pack_sha256,
        device=DeviceRecord(
            id=device.id, link=device.link, target=device.target, emulated=device.emulated
        ),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        status="unchecked",
        key=key,
        model=model,
        recipe=recipe,
        versions=versions or {},
    )


def _with_burst(found: Measurement, burst: Burst, protocol: Protocol) -> Measurement:
    """Latency, memory, runtime and the state around the burst."""
    found = _with_state(found, {"before": burst.before, "after": burst.after})
    status: Status = "throttled" if throttled(burst.after) else found.status
    return replace(
        found,
        status="unsupported" if burst.refused else status,
        runtime=burst.runtime,
        init_us=burst.init_us,
        first_us=burst.first_us,
        memory=burst.memory,
        samples_us=burst.samples_us or None,
        latency_us=latency(burst.samples_us) if burst.samples_us else None,
        notes=(*found.notes, *remarks(burst, protocol, found.device.state)),
    )


def _with_agreement(found: Measurement, burst: Burst, golden: Golden) -> Measurement:
    """The device's outputs of the golden inputs against the host's."""
    if golden.expected is None:
        note = "the host could not run the model: outputs were not compared"
        return replace(found, notes=(*found.notes, note))
    return replace(found, agreement=agreement(burst.outputs, golden.expected, golden.outputs))


def _quality(session: Session, outputs: Sequence[TensorSpec], evaluation: Evaluation) -> Quality:
    """The metric over the evaluation set, from what the device computed."""
    samples = 0
    with step("accuracy on the device") as advance:
        for inputs, labels in evaluation.chunks:
            pairs = zip(session.predict(inputs), outputs, strict=True)
            evaluation.metric.update([unstacked(output, spec) for output, spec in pairs], labels)
            samples += len(inputs[0])
            advance(len(inputs[0]))
    return replace(evaluation.quality, device=evaluation.metric.compute(), samples=samples)


def _with_state(found: Measurement, state: dict[str, Any]) -> Measurement:
    device = replace(found.device, state={**found.device.state, **state})
    return replace(found, device=device)


def throttled(state: dict[str, Any]) -> bool:
    """Whether the device held its clock back at the end of the burst."""
    try:
        return bool(int(state.get("throttled", "0"), 16) & THROTTLED_NOW)
    except (TypeError, ValueError):
        return False


def remarks(burst: Burst, protocol: Protocol, device: dict[str, Any]) -> tuple[str, ...]:
    """What a reader of the figures should know, each a sentence with its numbers."""
    notes = []
    if 0 < len(burst.samples_us) < protocol.runs and burst.failure is None:
        notes.append(
            f"{len(burst.samples_us)} of {protocol.runs} runs: "
            f"the protocol's {protocol.max_seconds:g} s were over"
        )
    load, cores = burst.before.get("load"), device.get("cores")
    if load and cores and load[0] > 0.5 * cores:
        notes.append(f"the device was busy before: load {load[0]:.1f} on {cores} cores")
    governor = burst.before.get("governor")
    if governor and governor != "performance":
        notes.append(f"the clock was not fixed: governor {governor}")
    if throttled(burst.after):
        notes.append(f"the device throttled: {burst.after['throttled']}")
    return tuple(notes)
