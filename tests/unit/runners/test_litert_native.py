"""The native runner on this machine's own link: what it sends, believes and refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import LinkError, MeasureError, ModelError
from edgepack.graph import parse
from edgepack.links.link import Completed
from edgepack.links.local import LocalLink
from edgepack.runners import replies
from edgepack.runners.litert_native import (
    DTYPES,
    LiteRTNative,
    arch_of,
    check_model,
    complaint,
    own_loader,
)
from edgepack.runners.replies import Operator, Output, Profile, operators, unpacked
from edgepack.runners.runner import RUNNERS, check_arch, place_of, session
from edgepack.runtimes import building, native_library
from edgepack.spec.device import Device, DeviceOptions
from edgepack.spec.target import Protocol
from tests.native_program import can_build
from tests.unit.graph import flatbuffers
from tests.unit.graph.flatbuffers import model, operator, subgraph, tensor

QUICK = Protocol(warmup_runs=1, warmup_seconds=0, runs=3, min_seconds=0, max_seconds=20)
SAMPLES = [np.array([[[-1, 2]], [[3, -4]], [[5, 6]]], np.float32)]
RESULT = [[[0, 2]], [[3, 0]], [[5, 6]]]


@pytest.fixture
def relu(tmp_path: Path) -> Path:
    path = tmp_path / "a model's name.tflite"
    path.write_bytes(flatbuffers.relu(2))
    return path


@pytest.fixture
def here(tmp_path: Path) -> Device:
    can_build(building.here())
    options = DeviceOptions(workspace=str(tmp_path / "a $(workspace); 'of' odd\nname"))
    return Device(id="here", target="generic-linux-x86_64", link="local", options=options)


class Frail(LocalLink):
    """A local link on which some programs answer otherwise: the first that matches, as often."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, int, Any]] = []
        self.seen: list[list[str]] = []

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
    ) -> Completed:
        self.seen.append(list(argv))
        for place, (part, times, answer) in enumerate(self.answers):
            if times and part in " ".join(argv):
                self.answers[place] = (part, times - 1, answer)
                if isinstance(answer, LinkError):
                    raise answer
                return Completed(returncode=answer[0], stdout=answer[1], stderr=answer[2])
        return super().run(argv, timeout_s=timeout_s, env=env, stdin=stdin)


@pytest.fixture
def opened(here: Device, tmp_path: Path) -> tuple[LiteRTNative, Frail]:
    link, place = Frail(), tmp_path / "job"
    place.mkdir()
    return LiteRTNative(link, here, str(place)), link


@pytest.fixture
def prepared(opened: tuple[LiteRTNative, Frail], relu: Path) -> tuple[LiteRTNative, Frail]:
    opened[0].prepare(relu)
    return opened


def test_a_whole_session_whatever_the_names(here: Device, relu: Path) -> None:
    with session(here, relu, "litert-native") as running:
        found = running.burst(SAMPLES, QUICK)
        (predicted,) = running.predict(SAMPLES)
        assert running.about()["machine"]
    assert (len(found.samples_us), found.warmup_runs, found.failure) == (3, 1, None)
    assert found.runtime is not None
    assert (found.runtime.name, found.runtime.version) == ("litert", native_library.version())
    assert (found.runtime.runner, found.runtime.delegate) == ("litert-native", "xnnpack")
    assert predicted.tolist() == found.outputs[0].tolist() == RESULT
    assert "load" in found.before
    assert "load" in found.after


def test_times_of_operators_and_cores(here: Device, relu: Path) -> None:
    one = min(os.sched_getaffinity(0))
    with session(here, relu, "litert-native") as running:
        plain = running.burst(SAMPLES, QUICK)
        pinned = replace(QUICK, cores=(one,), threads=0, runs=300)
        found = running.burst(SAMPLES, pinned, per_op=True)
        refused = running.burst(SAMPLES, replace(QUICK, cores=(one, 1023)))
    assert plain.operators is None
    assert (found.failure, found.runtime and found.runtime.threads) == (None, 1)
    assert found.outputs[0].tolist() == RESULT
    if found.operators is not None:  # a RELU may take less than the profiler can see
        assert [part.delegated for part in found.operators.operators] == [True]
    assert "cannot run on the core 1023" in str(refused.failure)
    assert refused.samples_us == ()


def test_a_c_library_is_sent_where_the_devices_own_does_not_do(
    opened: tuple[LiteRTNative, Frail], relu: Path
) -> None:
    runner, link = opened
    link.answers.append(("probe=1", 1, (127, b"", b"not found")))
    runner.prepare(relu)
    assert runner.about()["runner_libc"] == "sent along"
    found = runner.burst(SAMPLES, QUICK)
    assert (found.failure, found.outputs[0].tolist()) == (None, RESULT)
    assert all("ld-linux" in argv[0] for argv in link.seen if "runs=3" in argv)


def test_a_device_without_a_loader_gets_one(opened: tuple[LiteRTNative, Frail], relu: Path) -> None:
    runner, link = opened
    machine = building.here()
    state = f"machine\t{machine}\nbits\t64\nloader\t/lib/ld-musl-{machine}.so.1\n".encode()
    link.answers.append(("state.sh", 1, (0, state, b"")))
    runner.prepare(relu)
    assert sum("probe=1" in argv for argv in link.seen) == 1
    assert runner.predict(SAMPLES)[0].tolist() == RESULT


def test_both_ways_to_start_are_told_where_neither_works(
    opened: tuple[LiteRTNative, Frail], relu: Path
) -> None:
    runner, link = opened
    link.answers.append(("probe=1", 1, (1, b'{"error": "too old", "kind": "no-runtime"}', b"")))
    link.answers.append(("probe=1", 9, (126, b"", b"sh: runner: Permission denied\n")))
    with pytest.raises(MeasureError, match="litert-native does not run on here") as caught:
        runner.prepare(relu)
    assert "its own C library: too old; with the one that was sent: " in caught.value.message
    assert "Permission denied" in caught.value.message
    assert "options.workspace" in caught.value.hint


def test_many_samples_travel_in_chunks(
    prepared: tuple[LiteRTNative, Frail], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, link = prepared
    monkeypatch.setattr(replies, "CHUNK_BYTES", 2 * SAMPLES[0][0].nbytes)
    before = len(link.seen)
    assert runner.predict(SAMPLES)[0].tolist() == RESULT
    assert sum("predict=1" in argv for argv in link.seen[before:]) == 2


def test_a_failure_keeps_its_kind_and_the_runtimes_own_words(
    opened: tuple[LiteRTNative, Frail], tmp_path: Path, relu: Path
) -> None:
    runner, _ = opened
    custom = tmp_path / "custom.tflite"
    tensors = [tensor("x", (1, 2)), tensor("y", (1, 2))]
    custom.write_bytes(model(subgraph(tensors, [operator("Mine", [0], [1])], [0], [1])))
    runner.prepare(custom)
    found = runner.burst(SAMPLES, QUICK)
    assert found.refused
    assert "Encountered unresolved custom op: Mine" in str(found.failure)
    runner.prepare(relu)
    wrong = [np.zeros((1, 1, 3), np.int8)]
    found = runner.burst(wrong, QUICK)
    assert (found.refused, found.runtime) == (False, None)
    assert "input 0 wants float32[1, 2], found int8[1, 3]" in str(found.failure)
    with pytest.raises(MeasureError, match="litert-native on here: input 0 wants"):
        runner.predict(wrong)


@pytest.mark.parametrize("lost", ["rm -f", "state.sh"])
def test_samples_are_not_lost_with_the_link(
    prepared: tuple[LiteRTNative, Frail], lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, link = prepared
    whole = runner._run

    def then_lost(*arguments: Any) -> Any:
        reply = whole(*arguments)
        link.answers.append((lost, 1, LinkError("lost")))
        return reply

    monkeypatch.setattr(runner, "_run", then_lost)
    found = runner.burst(SAMPLES, QUICK)
    assert len(found.samples_us) == 3
    assert isinstance(found.failure, LinkError)
    assert found.after == {}


WHOLE = {
    "threads": 1, "delegate": "xnnpack", "tasks": 1, "init_us": 1.0, "first_us": 2.0,
    "memory": {"peak_rss_bytes": 3, "model_bytes": 1, "since_load": True}, "warmup_runs": 1,
    "samples_us": [1.0, 2.0], "outputs": [{"dtype": "float32", "shape": [1, 2]}],
}  # fmt: skip


def test_times_of_operators_are_held_against_the_burst() -> None:
    parts = (
        Operator(name="Convolution", delegated=True, us=60.0),
        Operator(name="SOFTMAX", delegated=False, us=20.0),
    )
    found = operators(Profile(runs=9, operators=parts), [100.0, 90.0, 500.0])
    assert found is not None
    assert (found.whole_us, found.runs, found.delegated) == (100.0, 9, 0.75)
    assert found.residual == pytest.approx(0.2)
    assert found.reliable
    assert [(one.index, one.name, one.share) for one in found.operators] == [
        (0, "Convolution", 0.75), (1, "SOFTMAX", 0.25),
    ]  # fmt: skip
    for whole in (101.0, 66.0):  # too much is left, too much was found
        other = operators(Profile(runs=9, operators=parts), [whole])
        assert other is not None
        assert not other.reliable
    idle = (Operator(name="RESHAPE", delegated=True, us=0.0),)
    assert operators(Profile(runs=9, operators=idle), [1.0]) is None
    assert operators(Profile(runs=9, operators=parts), []) is None
    assert operators(Profile(runs=9, operators=()), [1.0]) is None


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.booleans()), min_size=1, max_size=20),
    st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=9),
)
def test_shares_of_operators_make_up_the_whole(parts: Any, samples: list[float]) -> None:
    profile = Profile(
        runs=1, operators=tuple(Operator(name="x", delegated=d, us=us) for us, d in parts)
    )
    found = operators(profile, samples)
    if found is None:
        assert sum(us for us, _ in parts) <= 0
        return
    assert sum(one.share for one in found.operators) == pytest.approx(1)
    assert 0 <= found.delegated <= 1 + 1e-9
    total = sum(one.us for one in found.operators)
    assert total + found.residual * found.whole_us == pytest.approx(found.whole_us, rel=1e-6)
    assert found.reliable == (abs(found.residual) <= 0.2)


@pytest.mark.parametrize(
    "change",
    [
        {"settled": "yes"},
        {"profile": {"runs": 1, "operators": [{"name": 5, "delegated": True, "us": 1.0}]}},
        {"profile": {"runs": 1, "operators": [{"name": "x", "delegated": True, "us": -1.0}]}},
        {"profile": {"runs": 1, "operators": [{"name": "x" * 9999, "delegated": 1, "us": 1.0}]}},
        {"profile": []},
        {"samples_us": [1.0, -1.0]},
        {"samples_us": ["1"]},
        {"samples_us": [1e300]},
        {"samples_us": "many"},
        {"init_us": None, "threads": "two"},
        {"first_us": float("nan")},
        {"memory": [1]},
        {"memory": {"peak_rss_bytes": -1}},
        {"memory": {"peak_rss_bytes": 10**30}},
        {"outputs": [{"dtype": 1, "shape": []}]},
        {"outputs": [{"dtype": "int8", "shape": [-1]}]},
        {"outputs": [{}]},
        {"error": 5},
        {"delegate": ["xnnpack"]},
    ],
)
def test_replies_that_make_no_sense_are_a_crash(change: dict[str, Any]) -> None:
    content = json.dumps({**WHOLE, **change}).encode()
    reply = replies.read(Completed(returncode=0, stdout=content, stderr=b"odd\n"), "runner")
    assert (reply.kind, reply.error) == ("crash", "the runner ended with code 0: odd")
    assert reply.samples_us == ()


@given(st.one_of(st.binary(), st.recursive(st.none() | st.integers() | st.text(), st.lists)))
def test_whatever_comes_back_is_a_reply(content: Any) -> None:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    reply = replies.read(Completed(returncode=1, stdout=raw, stderr=raw), "runner")
    assert reply.error is not None


@pytest.mark.parametrize(
    "outputs",
    [
        [{"dtype": "object", "shape": [1, 2]}],
        [{"dtype": "float32", "shape": [1, 3]}],
        [{"dtype": "float32", "shape": [1 << 50, 1 << 50]}],
        [{"dtype": "float32", "shape": [1] * 99}],
        [],
    ],
)
def test_outputs_that_are_not_what_the_reply_says(
    prepared: tuple[LiteRTNative, Frail], outputs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, _ = prepared
    whole = runner._run

    def lying(*arguments: Any) -> Any:
        whole(*arguments)
        done = Completed(
            returncode=0, stdout=json.dumps({**WHOLE, "outputs": outputs}).encode(), stderr=b""
        )
        return replies.read(done, "runner")

    monkeypatch.setattr(runner, "_run", lying)
    found = runner.burst(SAMPLES, QUICK)
    assert isinstance(found.failure, MeasureError)
    assert "came back" in found.failure.message
    assert found.samples_us == (1.0, 2.0)


@given(
    st.lists(st.tuples(st.sampled_from(sorted(DTYPES)), st.lists(st.integers(1, 4), max_size=4)),
             min_size=1, max_size=4),
    st.integers(1, 3),
)  # fmt: skip
def test_outputs_are_taken_apart_as_they_were_put_together(
    kinds: list[tuple[str, list[int]]], count: int
) -> None:
    rng = np.random.default_rng(0)
    stacks = [rng.integers(0, 2, (count, *shape)).astype(dtype) for dtype, shape in kinds]
    content = b"".join(stack[row].tobytes() for row in range(count) for stack in stacks)
    wanted = [Output(dtype=dtype, shape=tuple(shape)) for dtype, shape in kinds]
    found = unpacked(content, wanted, count, DTYPES)
    for stack, other in zip(stacks, found, strict=True):
        np.testing.assert_array_equal(stack, other, strict=True)
    with pytest.raises(MeasureError, match="came back"):
        unpacked(content + b"x", wanted, count, DTYPES)


def test_models_that_the_c_api_does_not_take_are_refused_before_any_work() -> None:
    text = model(
        subgraph([tensor("words", (1,), "string"), tensor("y", (1,), "string")], [], [0], [1])
    )
    with pytest.raises(MeasureError, match="no inputs or outputs of type string") as caught:
        check_model(LiteRTNative.abilities, parse.parse(text, "text"))
    assert "litert-python" in caught.value.hint
    tensors = [tensor("x", (1, 2)), tensor("state", (1, 2), variable=True), tensor("y", (1, 2))]
    lasting = model(subgraph(tensors, [operator("ADD", [0, 1], [2])], [0], [2]))
    with pytest.raises(MeasureError, match="no variable tensors"):
        check_model(LiteRTNative.abilities, parse.parse(lasting, "lasting"))


def test_a_file_that_is_no_model(opened: tuple[LiteRTNative, Frail], tmp_path: Path) -> None:
    (tmp_path / "bad.tflite").write_bytes(b"bad")
    with pytest.raises(ModelError, match=r"bad\.tflite"):
        opened[0].prepare(tmp_path / "bad.tflite")


@pytest.mark.parametrize(
    ("facts", "arch"),
    [
        ({"machine": "aarch64", "bits": 64}, "aarch64"),
        ({"machine": "aarch64", "bits": 32}, "armv7l"),
        ({"machine": "aarch64", "bits": 64, "userland": "armhf"}, "armv7l"),
        ({"machine": "aarch64"}, "aarch64"),
        ({"machine": "armv7l", "bits": 32}, "armv7l"),
        ({"machine": "x86_64", "bits": 64}, "x86_64"),
        ({"machine": "riscv64", "bits": 64}, "riscv64"),
    ],
)
def test_the_arch_of_a_device(facts: dict[str, Any], arch: str) -> None:
    assert arch_of(facts, "board") == arch
    if arch in building.CROSS:
        check_arch(LiteRTNative.abilities, arch, "board")
        return
    with pytest.raises(MeasureError, match=f"litert-native does not run on board: .*{arch}") as no:
        check_arch(LiteRTNative.abilities, arch, "board")
    assert "tflite-runtime-python" in no.value.hint


def test_a_device_that_says_nothing(opened: tuple[LiteRTNative, Frail], relu: Path) -> None:
    runner, link = opened
    link.answers.append(("state.sh", 1, (127, b"", b"sh: not found\n")))
    with pytest.raises(MeasureError, match="here does not say what it is: sh: not found"):
        runner.prepare(relu)
    link.answers.append(("state.sh", 1, (0, b"cores\t4\n", b"")))
    with pytest.raises(MeasureError, match="does not say what machine"):
        runner.prepare(relu)


@pytest.mark.parametrize(
    ("loaders", "own"),
    [
        (["/lib/ld-linux-aarch64.so.1"], True),
        (["/lib64/ld-linux-x86-64.so.2"], True),
        (["/lib/ld-musl-aarch64.so.1"], False),
        (["/lib/ld-linux-aarch64.so.1", "/system/bin/linker64"], False),
        (["/system/bin/linker64"], False),
        ([], False),
    ],
)
def test_whose_c_library_starts_the_program(loaders: list[str], own: bool) -> None:
    assert own_loader({"loaders": loaders}) is own


def test_the_runtimes_first_complaint_is_kept() -> None:
    stderr = b"INFO: fine\nERROR: [a.cc:1] first\nERROR: second\n\xff"
    assert complaint(Completed(returncode=1, stdout=b"", stderr=stderr)) == "[a.cc:1] first"
    assert complaint(Completed(returncode=1, stdout=b"", stderr=b"WARNING: x")) == ""


def test_phones_are_measured_natively_unless_asked_otherwise() -> None:
    assert place_of(None, "adb") == RUNNERS["litert-native"]
    assert place_of("litert-python", "adb") == RUNNERS["litert-python"]
    assert place_of(None, "ssh") == place_of(None) != RUNNERS["litert-native"]
