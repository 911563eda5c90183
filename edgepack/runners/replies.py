"""What a program on a device replies, read with distrust, and what runners share around it."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le, MaxLen
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from edgepack.errors import EdgepackError, MeasureError
from edgepack.links.link import Completed, last_line
from edgepack.records import MeasuredMemory, OperatorTime, OperatorTimes, RuntimeRecord
from edgepack.runners.runner import Burst
from edgepack.runtimes.child import signal_name

CHUNK_BYTES = 16 << 20
"""Samples that are sent at one time."""
MOST_DIMENSIONS = 8
MOST_OPERATORS = 1 << 16
MOST_CHARACTERS = 1 << 10
UNRELIABLE = 0.2
"""The share of an inference that its operators may leave unexplained."""
CRASHED = "the device's log (`dmesg`) may say why; another --runner may take the model"
REFUSED = ("load", "allocate")
"""The kinds of failure that say that the runtime does not take the model."""

Microseconds = Annotated[float, Ge(0), Le(1e15)]
Count = Annotated[int, Ge(0), Le(1 << 53)]


@dataclass(frozen=True, kw_only=True)
class Output:
    """What one output is, a sample of it."""

    dtype: str
    shape: tuple[Count, ...]


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes at the peak, and the model's share of them."""

    peak_rss_bytes: Count | None = None
    model_bytes: Count | None = None


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One operator as the runtime ran it, and what it typically took."""

    name: Annotated[str, MaxLen(MOST_CHARACTERS)]
    delegated: bool
    us: Microseconds


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The operators of an inference, in their order, over so many that were profiled."""

    runs: Count
    operators: Annotated[tuple[Operator, ...], MaxLen(MOST_OPERATORS)]


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What the agent says of its runtime; the last two once the model is prepared."""

    name: str
    version: str
    threads: Count | None = None
    delegate: str | None = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A program's JSON: ``error`` beside what was measured before it. See agent.py, reply.h.

    None is what it did not come to.
    """

    error: str | None = None
    kind: str = ""
    runtime: Runtime | None = None
    threads: Count | None = None
    delegate: str | None = None
    init_us: Microseconds | None = None
    first_us: Microseconds | None = None
    memory: Memory | None = None
    warmup_runs: Count = 0
    settled: bool | None = None
    samples_us: tuple[Microseconds, ...] = ()
    outputs: tuple[Output, ...] = ()
    profile: Profile | None = None


@cache
def _reply() -> TypeAdapter[Reply]:
    return TypeAdapter(Reply)


def read(done: Completed, program: str) -> Reply:
    """The reply of a program that ended; a crash, or nonsense, becomes one that tells of it."""
    try:
        return _reply().validate_json(done.stdout, strict=True)
    except ValidationError:
        return Reply(error=crash(done, program), kind="crash")


def crash(done: Completed, program: str) -> str:
    """What a process that left no reply died of, in one line."""
    stderr = done.stderr.decode(errors="replace")
    if not 128 < done.returncode < 128 + signal.NSIG:
        return f"the {program} ended with code {done.returncode}: {last_line(stderr)}"
    name = signal_name(done.returncode - 128)
    epitaph = signal.strsignal(done.returncode - 128) or name  # the shell's, which says no more
    words = last_line("\n".join(line for line in stderr.splitlines() if epitaph not in line))
    why = ", perhaps for want of memory" if name == "SIGKILL" else ""
    return f"crashed with {name}{why}: {words}"


def as_burst(
    reply: Reply,
    *,
    runtime: RuntimeRecord | None,
    outputs: Sequence[NDArray[Any]],
    before: dict[str, Any],
    after: dict[str, Any],
    failure: EdgepackError | None,
) -> Burst:
    """A burst from the reply to it."""
    memory = reply.memory
    return Burst(
        runtime=runtime,
        samples_us=reply.samples_us,
        warmup_runs=reply.warmup_runs,
        settled=reply.settled,
        init_us=reply.init_us,
        first_us=reply.first_us,
        memory=MeasuredMemory(peak_rss_bytes=memory.peak_rss_bytes, model_bytes=memory.model_bytes)
        if memory
        else None,
        operators=operators(reply.profile, reply.samples_us) if reply.profile else None,
        outputs=tuple(outputs),
        before=before,
        after=after,
        failure=failure,
        refused=reply.kind in REFUSED,
    )


def operators(profile: Profile, samples_us: Sequence[float]) -> OperatorTimes | None:
    """The times of operators, held against the burst's median; None where nothing was timed."""
    total = sum(one.us for one in profile.operators)
    if not samples_us or not profile.operators or total <= 0:
        return None
    whole = median(samples_us)
    residual = 1 - total / whole if whole > 0 else 1.0
    return OperatorTimes(
        operators=tuple(
            OperatorTime(
                index=place,
                name=one.name,
                us=one.us,
                share=one.us / total,
                delegated=one.delegated,
            )
            for place, one in enumerate(profile.operators)
        ),
        runs=profile.runs,
        whole_us=whole,
        residual=residual,
        reliable=abs(residual) <= UNRELIABLE,
        delegated=sum(one.us for one in profile.operators if one.delegated) / total,
    )


def chunks(
    inputs: Sequence[NDArray[Any]], call_seconds: float, inference_seconds: float
) -> Iterator[list[NDArray[Any]]]:
    """Stacked samples in parts that fit the link, and that a call has the time for."""
    count = len(inputs[0]) if inputs else 1
    by_size = CHUNK_BYTES * count // max(1, sum(stack.nbytes for stack in inputs))
    by_time = int(call_seconds / 4 / max(1e-9, inference_seconds))
    step = max(1, min(by_size, by_time))
    for start in range(0, count, step):
        yield [stack[start : start + step] for stack in inputs]


def unpacked(
    content: bytes, kinds: Sequence[Output], count: int, dtypes: frozenset[str]
) -> list[NDArray[Any]]:
    """The stacked outputs in a raw file: sample by sample, each output after the other.

    Raises MeasureError where the file is not what the reply says.
    """
    fields = []
    for place, kind in enumerate(kinds):
        if kind.dtype not in dtypes or len(kind.shape) > MOST_DIMENSIONS:
            raise MeasureError(f"output {place} came back as {kind.dtype}{list(kind.shape)}")
        fields.append((f"f{place}", kind.dtype, kind.shape))
    try:
        row = np.dtype(fields)
    except (ValueError, OverflowError) as error:
        raise MeasureError(f"the outputs came back with impossible shapes: {error}") from error
    if not fields or row.itemsize * count != len(content):
        raise MeasureError(
            f"{count} samples of {len(fields)} outputs came back as {len(content)} bytes",
            "is the device out of room? see options.workspace",
        )
    stacked = np.frombuffer(content, row)
    return [np.ascontiguousarray(stacked[name]) for name, *_ in fields]
