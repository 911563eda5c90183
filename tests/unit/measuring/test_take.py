"""One measurement: all of it, or what was had when something failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgepack.errors import EdgepackError, LinkError, MeasureError
from edgepack.measuring.take import Evaluation, Golden, blank, remarks, take, throttled
from edgepack.records import (
    MeasuredMemory,
    Measurement,
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

    def __init__(self, burst: Any = BURST, predict: Any = None) -> None:
        self.result, self.answer, self.closed = burst, predict, False

    @contextmanager
    def __call__(self) -> Iterator[Bench]:
        try:
            yield self
        finally:
            self.closed = True

    def about(self) -> dict[str, Any]:
        return {"cpu": "Cortex-A72", "cores": 4}

    def burst(self, inputs: Any, protocol: Protocol) -> Burst:
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result

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
