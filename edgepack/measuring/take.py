"""Take one measurement: speed, memory, agreement, accuracy; what was had before a failure stays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any
from typing import Protocol as Structure

from numpy.typing import NDArray

from edgepack.errors import EdgepackError, LinkError, MeasureError
from edgepack.events import step
from edgepack.graph.values import unstacked
from edgepack.measuring.agreement import agreement
from edgepack.measuring.compare import Rival, interleaved
from edgepack.measuring.meter import Meter, metered
from edgepack.measuring.remarks import remarks
from edgepack.measuring.session import Arrays, Burst, Session
from edgepack.measuring.statistics import drift, latency, outliers
from edgepack.measuring.sustain import sustain
from edgepack.records import (
    DeviceRecord,
    ErrorRecord,
    Measurement,
    Quality,
    Status,
    TensorSpec,
    ThreadRun,
)
from edgepack.runtimes.conditions import throttled
from edgepack.spec.device import Device
from edgepack.spec.target import Protocol

INTERRUPTED = 130


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


@dataclass(frozen=True, kw_only=True)
class Also:
    """What is measured beside the burst that every measurement is.

    ``threads`` are counts to try, of which the fastest becomes the measurement; ``rival`` is
    another model to compare with, ``sustain_seconds`` how long to go on, ``per_op`` whether to
    ask for the times of single operators, ``meter`` what counts energy.
    """

    threads: tuple[int, ...] = ()
    sustain_seconds: float = 0.0
    rival: Rival | None = None
    per_op: bool = False
    meter: Meter | None = None


def take(
    opened: Callable[[], AbstractContextManager[Sequence[Session]]],
    blank: Measurement,
    golden: Golden,
    protocol: Protocol,
    evaluation: Evaluation | None = None,
    also: Also | None = None,
) -> Measurement:
    """``blank`` (see ``blank``) filled with what the device gave, whatever happens.

    ``opened`` reaches the device and puts the model there, and the rival beside it where there is
    one. An EdgepackError or Ctrl-C becomes the record's ``error`` and ``status`` (``unreachable``,
    ``failed``, ``unsupported``, ``interrupted``: the caller should then stop); what was measured
    before it is kept.
    """
    found = replace(blank, status="ok", protocol=asdict(protocol))
    try:
        with step(f"measure on {blank.device.id}"), opened() as sessions:
            for now in stages(found, sessions, golden, protocol, evaluation, also or Also()):
                found = now
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


def stages(
    found: Measurement,
    sessions: Sequence[Session],
    golden: Golden,
    protocol: Protocol,
    evaluation: Evaluation | None,
    also: Also,
) -> Iterator[Measurement]:
    """The measurement as it grows: what was yielded last is what is kept when something fails."""
    session = sessions[0]
    yield (found := _with_state(found, session.about()))
    best = None
    for now, best in _bursts(found, session, golden.inputs, protocol, also):  # noqa: B007
        yield (found := now)
    if best is None:
        raise MeasureError("no count of threads was tried", "see --threads")
    yield (found := _with_agreement(found, best, golden))
    if golden.verify is not None:
        yield (found := replace(found, notes=(*found.notes, golden.verify(best.outputs))))
    if also.meter is not None:
        yield (found := _with_energy(found, session, golden.inputs, protocol, also.meter))
    if also.rival is not None:
        turns = interleaved(session, sessions[1], golden.inputs, also.rival, protocol)
        for compared in turns:
            yield (found := replace(found, against=compared))
    if evaluation is not None:
        yield (found := replace(found, quality=_quality(session, golden.outputs, evaluation)))
    if also.sustain_seconds > 0:  # last: it leaves the device hot
        for sustained in sustain(session, golden.inputs, protocol, also.sustain_seconds):
            yield (found := replace(found, sustained=sustained))


def _bursts(
    blank: Measurement, session: Session, inputs: Arrays, protocol: Protocol, also: Also
) -> Iterator[tuple[Measurement, Burst]]:
    """The measurement after each count of threads, with the fastest one's burst.

    More threads must be faster beyond doubt: their interval of the median lies below. Raises what
    ended a burst early.
    """
    found, best, sweep = blank, None, []
    for threads in also.threads or (protocol.threads,):
        tried = replace(protocol, threads=threads)
        burst = session.burst(inputs, tried, **({"per_op": True} if also.per_op else {}))
        if burst.samples_us and len(also.threads) > 1:
            sweep.append(
                ThreadRun(
                    threads=threads,
                    latency_us=latency(burst.samples_us),
                    samples_us=burst.samples_us,
                    throttled=throttled(burst.after, burst.before),
                )
            )
        now = _with_burst(blank, burst, tried, per_op=also.per_op)
        if best is None or _faster(now, found):
            found, best = now, burst
        found = replace(found, sweep=tuple(sweep))
        yield found, best
        if burst.failure is not None:
            raise burst.failure


def _faster(one: Measurement, other: Measurement) -> bool:
    if one.latency_us is None or other.latency_us is None:
        return other.latency_us is None and one.latency_us is not None
    return one.latency_us.ci95[1] < other.latency_us.ci95[0]


def _with_energy(
    found: Measurement, session: Session, inputs: Arrays, protocol: Protocol, meter: Meter
) -> Measurement:
    """The energy of one more burst; a meter that fails costs a note, not the measurement."""
    try:
        energy = metered(meter, session, inputs, protocol)
    except MeasureError as error:
        return replace(found, notes=(*found.notes, f"energy was not measured: {error.message}"))
    return replace(found, energy=energy)


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


def _with_burst(
    found: Measurement, burst: Burst, protocol: Protocol, *, per_op: bool
) -> Measurement:
    """Latency, memory, runtime and the state around the burst."""
    found = _with_state(found, {"before": burst.before, "after": burst.after})
    status: Status = "throttled" if throttled(burst.after, burst.before) else found.status
    notes = [*found.notes, *remarks(burst, protocol, found.device.state)]
    if per_op and burst.operators is None and burst.failure is None:
        notes.append("no times of operators came back: the runner litert-native gives them")
    return replace(
        found,
        status="unsupported" if burst.refused else status,
        protocol=asdict(protocol),
        runtime=burst.runtime,
        init_us=burst.init_us,
        first_us=burst.first_us,
        memory=burst.memory,
        settled=burst.settled,
        samples_us=burst.samples_us or None,
        latency_us=latency(burst.samples_us) if burst.samples_us else None,
        outliers=outliers(burst.samples_us) if burst.samples_us else None,
        drift=drift(burst.samples_us),
        operators=burst.operators,
        notes=tuple(notes),
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
