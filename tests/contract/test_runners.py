"""Every runner keeps every promise of the protocol, in each place that it declares.

A place is a device that is there to be measured; ``PLACES`` says how it is come by, and what
cannot be asked of it. The runtimes on this machine's own processor give the host's very bits.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgepack.errors import MeasureError
from edgepack.links.link import connect
from edgepack.measuring.agreement import agreement
from edgepack.measuring.inputs import smooth_inputs
from edgepack.records import TensorSpec
from edgepack.runners.litert_native import DTYPES
from edgepack.runners.runner import (
    RUNNERS,
    Abilities,
    Burst,
    check_arch,
    place_of,
    session,
    sessions,
)
from edgepack.runtimes import building, child
from edgepack.spec.device import Device, DeviceOptions
from edgepack.spec.target import Protocol
from tests.adbd import Phone
from tests.native_program import can_build
from tests.needs import needs
from tests.sshd import Sshd
from tests.unit.graph import flatbuffers
from tests.unit.graph.flatbuffers import constant, model, operator, schema, subgraph, tensor
from tests.unit.graph.models import counter, two_in_three_out

pytestmark = pytest.mark.e2e

QUICK = Protocol(warmup_runs=2, warmup_seconds=0, runs=10, min_seconds=0, max_seconds=30)
HOST = {"litert": "litert-2.3", "tflite-runtime": "tflite-runtime-2.14"}
"""The host's own runtime whose results a runner's must be."""
INPUT = TensorSpec(name="image", shape=(1, 32, 32, 3), dtype="int8", scale=1.0, zero_point=-128)
OUTPUT = TensorSpec(name="class", shape=(1, 10), dtype="int8", scale=1 / 256, zero_point=-128)


@dataclass(frozen=True, kw_only=True)
class Place:
    """How a device is come by, its arch, and the runners that run there.

    ``lsb`` is how many steps an output of each runtime may be off the host's.
    """

    device: Callable[[pytest.FixtureRequest, str], Device]
    arch: str = building.here()
    runners: tuple[str, ...] = tuple(RUNNERS)
    lsb: tuple[tuple[str, int], ...] = (("litert", 0), ("tflite-runtime", 0))


def local(request: pytest.FixtureRequest, root: str) -> Device:
    options = DeviceOptions(workspace=root)
    return Device(id="here", target="generic-linux-x86_64", link="local", options=options)


def ssh(request: pytest.FixtureRequest, root: str) -> Device:
    running: Sshd = request.getfixturevalue("server")
    return running.device(workspace=root)


def adb(request: pytest.FixtureRequest, root: str) -> Device:
    running: Phone = request.getfixturevalue("phone")
    return running.device(workspace=root)


PLACES = {
    "local": Place(device=local),
    "ssh": Place(device=ssh),
    "adb": Place(device=adb, runners=("litert-native",)),
}
CELLS = [(runner, name) for name, place in PLACES.items() for runner in place.runners]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One runner in one place."""

    runner: str
    place: Place
    device: Device

    @property
    def abilities(self) -> Abilities:
        return abilities_of(self.runner)

    @property
    def runtime(self) -> str:
        """The runtime's name: ``litert`` or ``tflite-runtime``."""
        return next(name for name in HOST if self.runner.startswith(name))

    def host(self, path: Path, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs that the host's own runtime of that name gives."""
        return child.infer(path, inputs, HOST[self.runtime])

    def measured(
        self, path: Path, inputs: list[NDArray[Any]], protocol: Protocol = QUICK
    ) -> tuple[Burst, list[NDArray[Any]] | MeasureError]:
        """(a burst, predictions, or why there are none)."""
        with session(self.device, path, self.runner) as running:
            burst = running.burst(inputs, protocol)
            try:
                predicted: list[NDArray[Any]] | MeasureError = running.predict(inputs)
            except MeasureError as error:
                predicted = error
        return burst, predicted

    def is_clean(self) -> None:
        """Nothing but the cache remains on the device."""
        link = connect(self.device)
        try:
            done = link.run(["ls", "-A", self.device.workspace], timeout_s=20)
        finally:
            link.close()
        assert done.stdout.split() in ([], [b"cache"])


def abilities_of(runner: str) -> Abilities:
    module, _, attribute = place_of(runner).partition(":")
    found: Abilities = getattr(importlib.import_module(module), attribute).abilities
    return found


@pytest.fixture(scope="module", params=CELLS, ids="-".join)
def cell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Cell:
    runner, name = request.param
    place = PLACES[name]
    if runner == "litert-native":
        can_build(place.arch)
    if runner.startswith("tflite-runtime"):
        lacking = child.available(HOST["tflite-runtime"])
        needs(lacking is None, f"reach a package index: {lacking}")
    root = str(tmp_path_factory.mktemp("device") / "work")
    device = place.device(request, root)
    if name == "ssh":  # the Python that has numpy
        device = replace(device, options=replace(device.options, python=sys.executable))
    return Cell(runner=runner, place=place, device=device)


def written(folder: Path, content: bytes) -> Path:
    (folder / "model.tflite").write_bytes(content)
    return folder / "model.tflite"


def same(found: object, expected: list[NDArray[Any]]) -> None:
    assert isinstance(found, list), found
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


def test_a_measurement_agrees_with_the_host(cell: Cell, reference_data: Path) -> None:
    path = reference_data / "models" / "mlperf_ic_int8.tflite"
    inputs = smooth_inputs([INPUT], 4, seed=1)
    with session(cell.device, path, cell.runner) as running:
        about = running.about()
        burst = running.burst(inputs, QUICK)
    assert burst.failure is None
    assert {"cores", "kernel", "machine", "memory_bytes"} <= about.keys()
    assert {"load", "memory_free_bytes"} <= burst.before.keys() & burst.after.keys()
    assert (burst.warmup_runs, len(burst.samples_us)) == (2, 10)
    assert min(burst.samples_us) > 0
    assert burst.init_us is not None
    assert burst.first_us is not None
    assert burst.init_us > 0 < burst.first_us
    assert burst.memory is not None
    assert burst.memory.peak_rss_bytes is not None
    assert 0 < (burst.memory.model_bytes or 0) < burst.memory.peak_rss_bytes
    assert burst.runtime is not None
    assert (burst.runtime.name, burst.runtime.runner) == (cell.runtime, cell.runner)
    assert burst.runtime.threads == 1
    assert burst.runtime.version in HOST[cell.runtime] + ".0"
    assert burst.runtime.delegate in ("xnnpack", "none")
    found = agreement(burst.outputs, cell.host(path, inputs), [OUTPUT])
    assert found.max_abs_lsb is not None
    assert found.max_abs_lsb <= dict(cell.place.lsb)[cell.runtime]
    assert found.top1_match == 1.0
    cell.is_clean()


def test_seconds_rule_over_runs(cell: Cell, tmp_path: Path) -> None:
    path, ones = written(tmp_path, flatbuffers.relu(4)), np.ones((2, 1, 4), np.float32)
    with session(cell.device, path, cell.runner) as running:
        least = running.burst([ones], replace(QUICK, warmup_runs=0, runs=1, min_seconds=0.2))
        most = running.burst([ones], replace(QUICK, runs=100_000_000, max_seconds=0.2))
    assert (least.failure, most.failure) == (None, None)
    assert len(least.samples_us) > 10
    assert 0 < len(most.samples_us) < 100_000_000


def test_several_inputs_and_outputs_keep_the_subgraphs_order(cell: Cell, tmp_path: Path) -> None:
    otherwise = (("s", 0, {"z": 0, "y": 1}, {"m": 3, "n": 2, "l": 4}),)
    content = two_in_three_out([1, 0], [4, 3, 2], signatures=otherwise)
    a = np.array([[[1, -2]], [[3, 4]], [[-5, 6]]], np.float32)
    b = np.arange(9, dtype=np.int32).reshape(3, 1, 3)
    burst, predicted = cell.measured(written(tmp_path, content), [b, a])
    same(list(burst.outputs), [-a, -b, np.maximum(a, 0)])
    same(predicted, [-a, -b, np.maximum(a, 0)])


def test_every_type_travels_both_ways(cell: Cell, tmp_path: Path) -> None:
    dtypes = sorted(cell.abilities.dtypes or DTYPES)
    if cell.runtime == "tflite-runtime":  # which has no names for these
        dtypes = [name for name in dtypes if name != "uint16"]
    shape = np.array([3, 2], np.int32)
    tensors, steps = [constant("shape", shape)], []
    for dtype in dtypes:
        options = schema.ReshapeOptionsT()
        options.newShape = [3, 2]
        place = len(tensors)
        tensors += [tensor(f"x-{dtype}", (2, 3), dtype), tensor(f"y-{dtype}", (3, 2), dtype)]
        steps.append(operator("RESHAPE", [place, 0], [place + 1], options))
    places = range(1, len(tensors), 2)
    graph = subgraph(tensors, steps, list(places), [place + 1 for place in places])
    inputs = [(np.arange(12).reshape(2, 2, 3) % 2).astype(dtype) for dtype in dtypes]
    burst, predicted = cell.measured(written(tmp_path, model(graph)), inputs)
    assert burst.failure is None
    expected = [stack.reshape(2, 3, 2) for stack in inputs]
    same(list(burst.outputs), expected)
    same(predicted, expected)


def test_each_sample_starts_from_a_fresh_state(cell: Cell, tmp_path: Path) -> None:
    ones = np.ones((3, 1, 2), np.float32)
    burst, predicted = cell.measured(written(tmp_path, counter()), [ones])
    same(list(burst.outputs), [ones])
    same(predicted, [ones])


def test_threads_are_told(cell: Cell, reference_data: Path) -> None:
    path = reference_data / "models" / "mlperf_kws_int8.tflite"
    inputs = [np.zeros((1, 1, 49, 10, 1), np.int8)]
    most = cell.abilities.threads or 3
    with session(cell.device, path, cell.runner) as running:
        burst = running.burst(inputs, replace(QUICK, threads=most))
    assert burst.failure is None
    assert burst.runtime is not None
    assert burst.runtime.threads == most


def test_cores_are_chosen_or_refused(cell: Cell, tmp_path: Path) -> None:
    path, ones = written(tmp_path, flatbuffers.relu(4)), np.ones((2, 1, 4), np.float32)
    with session(cell.device, path, cell.runner) as running:
        pinned = running.burst([ones], replace(QUICK, cores=(0,), threads=0))
        missing = running.burst([ones], replace(QUICK, cores=(0, 1023)))
    assert pinned.failure is None
    assert pinned.runtime is not None
    assert pinned.runtime.threads == 1
    assert isinstance(missing.failure, MeasureError)
    assert "cannot run on the core" in missing.failure.message
    assert (missing.samples_us, missing.refused) == ((), False)


def test_a_warm_up_is_judged(cell: Cell, tmp_path: Path) -> None:
    path, ones = written(tmp_path, flatbuffers.relu(4)), np.ones((2, 1, 4), np.float32)
    with session(cell.device, path, cell.runner) as running:
        few = running.burst([ones], QUICK)
        many = running.burst([ones], replace(QUICK, warmup_runs=1000))
    assert few.settled is None
    assert many.settled in (True, False)
    assert many.warmup_runs % 1000 == 0


def test_times_of_operators_are_given_where_they_are_promised(
    cell: Cell, reference_data: Path
) -> None:
    path = reference_data / "models" / "mlperf_ic_int8.tflite"
    inputs = smooth_inputs([INPUT], 2, seed=1)
    with session(cell.device, path, cell.runner) as running:
        burst = running.burst(inputs, QUICK, per_op=True)
    assert burst.failure is None
    assert (burst.operators is not None) == cell.abilities.per_op
    if burst.operators is not None:
        assert len(burst.operators.operators) > 10
        assert sum(one.share for one in burst.operators.operators) == pytest.approx(1)
        assert 0.5 < burst.operators.delegated <= 1


def test_two_models_share_a_session_and_nothing_else(cell: Cell, tmp_path: Path) -> None:
    one, other = tmp_path / "one.tflite", tmp_path / "other.tflite"
    one.write_bytes(flatbuffers.relu(2))
    other.write_bytes(flatbuffers.relu(3))
    a, b = np.array([[[-1, 2]]], np.float32), np.array([[[3, -4, 5]]], np.float32)
    with sessions(cell.device, [one, other], cell.runner) as (first, second):
        for _ in range(2):
            same(list(first.burst([a], QUICK).outputs), [np.maximum(a, 0)])
            same(list(second.burst([b], QUICK).outputs), [np.maximum(b, 0)])
    cell.is_clean()


def test_inputs_that_do_not_suit_are_named(cell: Cell, tmp_path: Path) -> None:
    path = written(tmp_path, flatbuffers.relu(4))
    burst, predicted = cell.measured(path, [np.zeros((1, 1, 3), np.int8)])
    assert isinstance(burst.failure, MeasureError)
    assert "input 0 wants float32[1, 4], found int8[1, 3]" in burst.failure.message
    assert (burst.samples_us, burst.outputs, burst.refused) == ((), (), False)
    assert isinstance(predicted, MeasureError)
    assert "input 0 wants" in predicted.message
    cell.is_clean()


def test_an_operator_that_the_runtime_has_not_is_a_refusal(cell: Cell, tmp_path: Path) -> None:
    tensors = [tensor("x", (1, 2)), tensor("y", (1, 2))]
    custom = model(subgraph(tensors, [operator("Mine", [0], [1])], [0], [1]))
    burst, predicted = cell.measured(written(tmp_path, custom), [np.zeros((1, 1, 2), np.float32)])
    assert burst.refused
    assert isinstance(burst.failure, MeasureError)
    assert "Mine" in burst.failure.message
    assert "edgepack inspect" in burst.failure.hint
    assert isinstance(predicted, MeasureError)


def test_what_is_not_declared_is_refused(cell: Cell, tmp_path: Path) -> None:
    arches = cell.abilities.arches
    if arches is not None:
        assert cell.place.arch in arches
        with pytest.raises(MeasureError, match="it is riscv64, not one of"):
            check_arch(cell.abilities, "riscv64", "board")
    if cell.abilities.dtypes is not None:
        tensors = [tensor("x", (1,), "string"), tensor("y", (1,), "string")]
        text = written(tmp_path, model(subgraph(tensors, [], [0], [1])))
        with (
            pytest.raises(MeasureError, match=r"no inputs or outputs of type string \('x'\)"),
            session(cell.device, text, cell.runner),
        ):
            pass
    if not cell.abilities.variables:
        tensors = [tensor("x", (1, 2)), tensor("s", (1, 2), variable=True), tensor("y", (1, 2))]
        graph = subgraph(tensors, [operator("ADD", [0, 1], [2])], [0], [2])
        with (
            pytest.raises(MeasureError, match="no variable tensors"),
            session(cell.device, written(tmp_path, model(graph)), cell.runner),
        ):
            pass
    cell.is_clean()


def test_a_phone_is_measured_without_a_runners_name(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    can_build(building.here())
    device = adb(request, str(tmp_path / "work"))
    ones = np.ones((1, 1, 4), np.float32)
    with session(device, written(tmp_path, flatbuffers.relu(4))) as running:
        assert running.burst([ones], QUICK).runtime is not None
        same(running.predict([ones]), [ones])
