"""One measurement: all of it, or what was had when something failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgepack.errors import EdgepackError, LinkError, MeasureError
from edgepack.measuring.compare import PAIRS, Rival
from edgepack.measuring.take import Also, Evaluation, Golden, blank, remarks, take, throttled
from edgepack.records import (
    MeasuredMemory,
    Measurement,
    OperatorTimes,
    Quality,
    RuntimeRecord,
    TensorSpec,
    from_dict,
    to_dict,
)
from edgepack.runners.runner import Burst
from edgepack.spec.device import Device
from edgepack.spec.target import Protocol

DEVICE = Device(id="pi", target="rpi4-64", link="ssh", address="pi@example", emulated=True)
OUTPUT = TensorSpec(name="class", shape=(1, 2), dtype="int8", scale=0.5, zero_point=0)
INPUTS = [np.zeros((2, 1, 3), np.int8)]
EXPECTED = [np.array([[[1, 2]], [[4, 3]]], np.int8)]
RUNTIME = RuntimeRecord(
    name="litert", version="2.3.0", threads=1, delegate="xnnpack", runner="litert-python"
)
BURST = Burst(
    runtime=RUNTIME,
    samples_us=(3.0, 1.0, 2.0),
    init_us=9.0,
    first_us=5.0,
    memory=MeasuredMemory(peak_rss_bytes=10, model_bytes=4),
    outputs=tuple(EXPECTED),
    before={"load": [0.1, 0.1, 0.1], "governor": "performance"},
    after={"load": [1.0, 0.1, 0.1], "throttled": "0x50000"},
)
QUICK = Protocol(runs=3)


class Bench:
    """A device that does what a test says."""

    def __init__(self, burst: Any = BURST, predict: Any = None, others: Any = ()) -> None:
        self.result, self.answer, self.closed = burst, predict, False
        self.others, self.asked = others, []

    @contextmanager
    def __call__(self) -> Iterator[tuple[Bench, ...]]:
        try:
            yield (self, *self.others)
        finally:
            self.closed = True

    def about(self) -> dict[str, Any]:
        return {"cpu": "Cortex-A72", "cores": 4}

    def burst(self, inputs: Any, protocol: Protocol, **more: Any) -> Burst:
        self.asked.append((inputs, protocol, more))
        result = self.result(protocol) if callable(self.result) else self.result
        if isinstance(result, BaseException):
            raise result
        return result

    def predict(self, inputs: Any) -> list[Any]:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return [EXPECTED[0][: len(inputs[0])]]


class Mean:
    """A metric that remembers what it was given."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    def update(self, outputs: Any, y: Any) -> None:
        self.given.append((outputs[0].tolist(), y.tolist()))

    def compute(self) -> float:
        return 0.75


def taken(bench: Bench, golden: Golden | None = None, **options: Any) -> Measurement:
    empty = blank(DEVICE, artefact_sha256="a" * 64, key="k", model="m", recipe="int8")
    golden = golden or Golden(inputs=INPUTS, expected=EXPECTED, outputs=[OUTPUT])
    found = take(bench, empty, golden, QUICK, **options)
    assert bench.closed
    assert from_dict(Measurement, to_dict(found)) == found
    return found


def test_a_whole_measurement() -> None:
    metric = Mean()
    chunks = [(INPUTS, np.array([1, 0])), ([INPUTS[0][:1]], np.array([1]))]
    quality = Quality(metric="top1", reference=0.9, host=0.8, samples=99)
    evaluation = Evaluation(chunks=chunks, metric=metric, quality=quality)
    found = taken(Bench(), evaluation=evaluation)
    assert (found.status, found.error, found.notes) == ("ok", None, ())
    assert (found.model, found.recipe, found.key) == ("m", "int8", "k")
    assert (found.device.id, found.device.emulated) == ("pi", True)
    assert found.device.state["cpu"] == "Cortex-A72"
    assert found.device.state["before"]["governor"] == "performance"
    assert found.samples_us == (3.0, 1.0, 2.0)
    assert found.latency_us is not None
    assert found.latency_us.p50 == 2.0
    assert (found.init_us, found.first_us, found.runtime) == (9.0, 5.0, RUNTIME)
    assert found.agreement is not None
    assert found.agreement.top1_match == 1.0
    assert found.quality == replace(quality, device=0.75, samples=3)
    assert metric.given == [([[0.5, 1.0], [2.0, 1.5]], [1, 0]), ([[0.5, 1.0]], [1])]
    assert found.protocol["runs"] == 3


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (LinkError("lost", "plug it in"), "unreachable", 5),
        (MeasureError("broken", "mend it"), "failed", 6),
        (KeyboardInterrupt(), "interrupted", 130),
    ],
)
@pytest.mark.parametrize("when", ["burst", "accuracy"])
def test_what_was_had_is_kept(error: Any, status: str, code: int, when: str) -> None:
    bench = Bench(burst=error) if when == "burst" else Bench(predict=error)
    evaluation = Evaluation(
        chunks=[(INPUTS, np.array([1, 0]))], metric=Mean(), quality=Quality(metric="top1")
    )
    found = taken(bench, evaluation=evaluation)
    assert found.status == status
    assert found.error is not None
    assert found.error.code == code
    if isinstance(error, EdgepackError):
        assert (found.error.message, found.error.hint) == (error.message, error.hint)
    assert found.device.state["cpu"] == "Cortex-A72"
    assert (found.samples_us is None) == (when == "burst")
    assert (found.agreement is None) == (when == "burst")
    assert found.quality is None


@pytest.mark.parametrize(
    ("failure", "refused", "status"),
    [
        (MeasureError("crashed"), False, "failed"),
        (MeasureError("custom operator"), True, "unsupported"),
        (LinkError("lost"), False, "unreachable"),
    ],
)
def test_a_burst_that_failed_half_way(failure: Any, refused: bool, status: str) -> None:
    burst = replace(BURST, failure=failure, refused=refused, samples_us=(), outputs=(), memory=None)
    found = taken(Bench(burst=burst))
    assert (found.status, found.latency_us, found.samples_us) == (status, None, None)
    assert (found.init_us, found.agreement) == (9.0, None)
    assert found.error is not None
    assert found.error.message == failure.message


def test_other_outputs_than_the_hosts_fail_but_keep_the_times() -> None:
    found = taken(Bench(burst=replace(BURST, outputs=())))
    assert (found.status, found.samples_us) == ("failed", (3.0, 1.0, 2.0))


def test_without_the_hosts_outputs_nothing_is_compared() -> None:
    found = taken(Bench(), Golden(inputs=INPUTS, expected=None, outputs=[OUTPUT]))
    assert (found.status, found.agreement) == ("ok", None)
    assert "not compared" in found.notes[0]


def test_a_throttled_device_is_told_and_its_figures_stay() -> None:
    found = taken(Bench(burst=replace(BURST, after={"throttled": "0x50005"})))
    assert found.status == "throttled"
    assert found.latency_us is not None
    assert found.agreement is not None
    assert found.notes == ("the device throttled: 0x50005",)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({}, False),
        ({"throttled": "0x0"}, False),
        ({"throttled": "0x50000"}, False),
        ({"throttled": "0x4"}, True),
        ({"throttled": "what"}, False),
        ({"throttled": None}, False),
    ],
)
def test_throttling_is_of_now(state: dict[str, Any], expected: bool) -> None:
    assert throttled(state) is expected


def test_remarks_have_their_numbers() -> None:
    before = {"load": [3.5, 1.0, 1.0], "governor": "ondemand"}
    notes = remarks(replace(BURST, before=before), Protocol(runs=100, max_seconds=5), {"cores": 4})
    assert notes == (
        "3 of 100 runs: the protocol's 5 s were over",
        "the device was busy before: load 3.5 on 4 cores",
        "the clock was not fixed: governor ondemand",
    )


def steady(median: float, count: int = 100) -> tuple[float, ...]:
    """Samples that go up and down around a median."""
    return tuple(median * (1 + 0.01 * ((place * 7) % 5 - 2)) for place in range(count))


def test_remarks_on_the_samples_and_the_warm_up() -> None:
    samples = (*steady(10.0, 90), *steady(12.0, 30))
    slow = replace(BURST, samples_us=samples, settled=False, warmup_runs=7)
    notes = remarks(slow, Protocol(runs=3, max_start_c=50, warmup_max_seconds=2), {})
    assert notes == (
        "the speed had not settled after 7 runs of warm-up (warmup_max_seconds 2)",
        "the device tells no temperature: it may have been hotter at the start than 50 °C",
        "the run drifted: its last quarter is 20% slower than its first",
    )
    far = replace(BURST, samples_us=(*steady(10.0), 99.0, 98.0))
    (note,) = remarks(far, Protocol(runs=3), {})
    assert note.startswith("2 of 102 runs are outliers (beyond ")
    cool = replace(BURST, before={"temperature_c": {"thermal_zone0 cpu-thermal": 40.0}})
    assert remarks(cool, Protocol(runs=3, max_start_c=50), {}) == ()


def test_every_sample_counts_also_an_outlier() -> None:
    samples = (*steady(10.0), 99.0)
    found = taken(Bench(burst=replace(BURST, samples_us=samples, settled=True)))
    assert found.samples_us == samples
    assert found.latency_us is not None
    assert (found.latency_us.n, found.latency_us.max, found.settled) == (101, 99.0, True)
    assert found.outliers is not None
    assert found.outliers.n == 1
    assert found.drift is not None
    assert not found.drift.real


def by_threads(medians: dict[int, float]) -> Any:
    def burst(protocol: Protocol) -> Any:
        return replace(
            BURST,
            samples_us=steady(medians[protocol.threads]),
            runtime=replace(RUNTIME, threads=protocol.threads),
        )

    return burst


def test_the_fastest_count_of_threads_is_the_measurement() -> None:
    bench = Bench(burst=by_threads({1: 10.0, 2: 6.0, 4: 8.0}))
    found = taken(bench, also=Also(threads=(1, 2, 4)))
    assert found.runtime is not None
    assert found.latency_us is not None
    assert (found.runtime.threads, found.protocol["threads"]) == (2, 2)
    assert found.latency_us.p50 == pytest.approx(6.0)
    assert [(run.threads, run.latency_us.p50) for run in found.sweep] == [
        (1, pytest.approx(10.0)), (2, pytest.approx(6.0)), (4, pytest.approx(8.0)),
    ]  # fmt: skip
    assert found.sweep[2].samples_us == steady(8.0)


def test_more_threads_must_be_faster_beyond_doubt() -> None:
    found = taken(Bench(burst=by_threads({1: 10.0, 2: 9.99})), also=Also(threads=(1, 2)))
    assert found.protocol["threads"] == 1


def test_one_count_is_no_sweep() -> None:
    found = taken(Bench(burst=by_threads({4: 5.0})), also=Also(threads=(4,)))
    assert (found.protocol["threads"], found.sweep) == (4, ())


def test_a_sweep_that_is_lost_keeps_what_it_had() -> None:
    def burst(protocol: Protocol) -> Any:
        return LinkError("lost") if protocol.threads == 2 else by_threads({1: 10.0})(protocol)

    found = taken(Bench(burst=burst), also=Also(threads=(1, 2)))
    assert (found.status, len(found.sweep), found.protocol["threads"]) == ("unreachable", 1, 1)
    assert found.latency_us is not None


RIVAL = Rival(artefact_sha256="b" * 64, model="other", recipe="float32", inputs=[INPUTS[0][:1]])


def test_two_models_in_turns() -> None:
    order: list[str] = []

    def telling(name: str, median: float) -> Any:
        def burst(protocol: Protocol) -> Any:
            order.append(name)
            return replace(BURST, samples_us=steady(median))

        return burst

    other = Bench(burst=telling("B", 12.0))
    mine = Bench(burst=telling("A", 10.0), others=(other,))
    found = taken(mine, also=Also(rival=RIVAL))
    assert "".join(order[1:]) == "AB" * PAIRS
    assert found.against is not None
    assert (found.against.model, found.against.verdict) == ("other", "real")
    assert found.against.change == pytest.approx(0.2)
    assert len(found.against.pairs) == PAIRS
    assert all(inputs is RIVAL.inputs for inputs, _, _ in other.asked)


def test_a_comparison_that_is_cut_short_has_its_pairs_and_no_verdict() -> None:
    turns = iter([steady(5.0)] * 3)

    def other(protocol: Protocol) -> Any:
        samples = next(turns, None)
        return KeyboardInterrupt() if samples is None else replace(BURST, samples_us=samples)

    mine = Bench(burst=by_threads({1: 10.0}), others=(Bench(burst=other),))
    found = taken(mine, also=Also(rival=RIVAL))
    assert found.status == "interrupted"
    assert found.against is not None
    assert (len(found.against.pairs), found.against.verdict) == (3, "can't tell")


def test_a_sustained_load_that_is_cut_short_keeps_its_bins() -> None:
    bursts = iter([BURST, BURST, BURST])
    bench = Bench(burst=lambda _: next(bursts, KeyboardInterrupt()))
    found = taken(bench, also=Also(sustain_seconds=600))
    assert found.status == "interrupted"
    assert found.sustained is not None
    assert [one.n for one in found.sustained.bins] == [3, 3]
    assert found.latency_us is not None


def test_times_of_operators_are_asked_for_and_their_absence_is_told() -> None:
    bench = Bench()
    found = taken(bench, also=Also(per_op=True))
    assert bench.asked[0][2] == {"per_op": True}
    assert (found.operators, found.notes) == (
        None, ("no times of operators came back: the runner litert-native gives them",),
    )  # fmt: skip
    times = OperatorTimes(
        operators=(), runs=3, whole_us=1.0, residual=1.0, reliable=False, delegated=0.0
    )
    found = taken(Bench(burst=replace(BURST, operators=times)), also=Also(per_op=True))
    assert (found.operators, found.notes) == (times, ())


class FakeMeter:
    """A meter that counts 3 J, or fails."""

    name = "fake"

    def __init__(self, error: str = "") -> None:
        self.error, self.calls = error, []

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> float:
        self.calls.append("stop")
        if self.error:
            raise MeasureError(self.error)
        return 3.0


def test_energy_is_of_one_whole_burst_or_absent() -> None:
    meter = FakeMeter()
    found = taken(Bench(burst=replace(BURST, warmup_runs=4)), also=Also(meter=meter))
    assert meter.calls == ["start", "stop"]
    assert found.energy is not None
    # the first, 4 to warm up, 3 measured, 2 samples for their outputs
    assert (found.energy.joules, found.energy.inferences, found.energy.meter) == (3.0, 10, "fake")
    found = taken(Bench(), also=Also(meter=FakeMeter("broken")))
    assert (found.status, found.energy) == ("ok", None)
    assert found.notes == ("energy was not measured: broken",)
    assert taken(Bench()).energy is None


def test_a_meter_is_ended_where_the_burst_fails() -> None:
    meter, bursts = FakeMeter(), iter([BURST])
    bench = Bench(burst=lambda _: next(bursts, LinkError("lost")))
    found = taken(bench, also=Also(meter=meter))
    assert (found.status, meter.calls, found.energy) == ("unreachable", ["start", "stop"], None)
