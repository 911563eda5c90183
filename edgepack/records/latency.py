"""How long inferences took: a distribution, and what is told of it beyond one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgepack.records.shared import Record


@dataclass(frozen=True, kw_only=True)
class Latency(Record):
    """A distribution of single inferences in microseconds; ``ci95`` is of the median."""

    n: int
    mean: float
    std: float
    min: float
    p50: float
    p90: float
    p99: float
    max: float
    ci95: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Outliers(Record):
    """The samples, of ``samples_us``, that lie below or above two fences; none is left out."""

    n: int
    below_us: float
    above_us: float


@dataclass(frozen=True, kw_only=True)
class Drift(Record):
    """The median of the first part of a run and of its last; ``change`` 0.1 is 10 % slower.

    ``real`` is true where it is more than 5 % and the 95 % intervals of both medians are apart.
    """

    first_us: float
    last_us: float
    change: float
    real: bool


@dataclass(frozen=True, kw_only=True)
class ThreadRun(Record):
    """One count of threads in a sweep."""

    threads: int
    latency_us: Latency
    samples_us: tuple[float, ...]
    throttled: bool = False


@dataclass(frozen=True, kw_only=True)
class Bin(Record):
    """One burst of a sustained load: when it started, in seconds since the first, and its times.

    ``seconds`` is what its ``n`` inferences took together. Temperature (°C, the processor's
    hottest part), clock (kHz, of the fastest core) and throttling are of its end.
    """

    start_s: float
    seconds: float
    n: int
    min_us: float
    p50_us: float
    p90_us: float
    p99_us: float
    max_us: float
    temperature_c: float | None = None
    clock_khz: int | None = None
    throttled: bool = False


@dataclass(frozen=True, kw_only=True)
class Sustained(Record):
    """Inference after inference for ``seconds``, summed up burst by burst.

    ``drift`` is of the bins of the first minute and the last (of a short run, of its quarters).
    """

    seconds: float
    bins: tuple[Bin, ...] = ()
    drift: Drift | None = None


@dataclass(frozen=True, kw_only=True)
class Pair(Record):
    """One turn of a comparison: the medians of a burst of the model, then of the other one."""

    a_us: float
    b_us: float
    n: tuple[int, int]
    throttled: bool = False


@dataclass(frozen=True, kw_only=True)
class Comparison(Record):
    """The model, A, against another, B, in turns on one device: A B A B …

    ``change`` is the median over the pairs of B's median against A's: -0.2 is that B takes a
    fifth less; ``ci95`` is its 95 % interval. It is ``real`` where that lies wholly beyond
    ±``margin``, ``not real`` where it lies wholly within, else nobody ``can't tell``.
    """

    artefact_sha256: str
    model: str
    recipe: str
    pairs: tuple[Pair, ...] = ()
    margin: float
    change: float | None = None
    ci95: tuple[float, float] | None = None
    verdict: Literal["real", "not real", "can't tell"] = "can't tell"


@dataclass(frozen=True, kw_only=True)
class OperatorTime(Record):
    """One operator as the runtime ran it; ``share`` is of the sum of all.

    ``index`` is its place in the order in which it ran, ``name`` the runtime's: a delegate
    fuses operators and calls them by names of its own.
    """

    index: int
    name: str
    us: float
    share: float
    delegated: bool


@dataclass(frozen=True, kw_only=True)
class OperatorTimes(Record):
    """What every operator typically took in ``runs`` profiled inferences after the burst.

    ``whole_us`` is the burst's median, which no profiler slowed down; ``residual`` is the share of
    it that the operators do not account for (below 0: they took more). Where that is more than
    20 %, the times are not ``reliable``. ``delegated`` is the share of the operators' time that a
    delegate took.
    """

    operators: tuple[OperatorTime, ...]
    runs: int
    whole_us: float
    residual: float
    reliable: bool
    delegated: float


@dataclass(frozen=True, kw_only=True)
class Energy(Record):
    """What a meter counted while the device took a burst, from its start to its end.

    All of the device's consumption in ``seconds``, also what starting, loading and warming up
    took; ``inferences`` is how many there were.
    """

    joules: float
    seconds: float
    inferences: int
    meter: str
