"""The agent: what it takes, what it answers, and that it times nothing but the inference."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepack.runtimes import agent, state
from tests.needs import needs
from tests.unit.graph import flatbuffers
from tests.unit.graph.flatbuffers import model, operator, subgraph, tensor
from tests.unit.graph.models import counter


@pytest.fixture
def relu(tmp_path: Path) -> Path:
    """max(x, 0) on float32[1, 4]."""
    path = tmp_path / "relu.tflite"
    path.write_bytes(flatbuffers.relu(4))
    return path


def samples(path: Path, *stacks: Any) -> Path:
    with path.open("wb") as file:
        np.savez(file, *stacks)
    return path


@pytest.fixture
def request_(relu: Path, tmp_path: Path) -> dict[str, Any]:
    stack = np.array([[[-1, 2, -3, 4]], [[1, -2, 3, -4]]], np.float32)
    return {
        "model": str(relu),
        "inputs": str(samples(tmp_path / "in.npz", stack)),
        "outputs": str(tmp_path / "out.npz"),
        "runtime": "litert",
        "threads": 1,
        "warmup_runs": 2,
        "warmup_seconds": 0,
        "runs": 5,
        "min_seconds": 0,
        "max_seconds": 20,
    }


def reply_to(request: dict[str, Any]) -> dict[str, Any]:
    reply: dict[str, Any] = {}
    agent.answer(request, reply)
    return reply


def refused(request: dict[str, Any]) -> tuple[str, str]:
    with pytest.raises(agent.Failure) as caught:
        reply_to(request)
    return caught.value.kind, str(caught.value)


@pytest.mark.parametrize("module", [agent, state])
def test_it_is_python_3_8_and_imports_only_the_standard_library(module: Any) -> None:
    tree = ast.parse(Path(module.__file__).read_text(), feature_version=(3, 8))
    imported = {
        name.split(".")[0]
        for node in tree.body
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names


def test_a_burst(request_: dict[str, Any]) -> None:
    reply = reply_to(request_)
    assert reply["runtime"]["name"] == "litert"
    assert reply["runtime"]["threads"] == 1
    assert reply["runtime"]["delegate"] in ("xnnpack", "none")
    assert (reply["warmup_runs"], len(reply["samples_us"])) == (2, 5)
    assert all(sample > 0 for sample in (*reply["samples_us"], reply["init_us"], reply["first_us"]))
    assert reply["memory"]["peak_rss_bytes"] > reply["memory"]["model_bytes"] >= 0
    with np.load(request_["outputs"]) as outputs:
        assert outputs["arr_0"].tolist() == [[[0, 2, 0, 4]], [[1, 0, 3, 0]]]


def test_raw_samples_are_not_the_models_memory(request_: dict[str, Any], tmp_path: Path) -> None:
    """In a process of its own: 300,000 samples are 20 MiB of Python numbers."""
    found = []
    for runs in (5, 300_000):
        path = tmp_path / "request.json"
        path.write_text(json.dumps({**request_, "runs": runs}))
        argv = [sys.executable, str(agent.__file__), str(path)]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        reply = json.loads(done.stdout)
        assert len(reply["samples_us"]) == runs
        found.append(reply["memory"]["model_bytes"])
    assert abs(found[1] - found[0]) < 2 << 20


class Paced:
    """A model whose inferences take what a test says, on a clock of its own; then the last."""

    def __init__(self, times_s: list[float]) -> None:
        self.times, self.now, self.ran = times_s, 0.0, 0

    def feed(self, sample: Any) -> None:
        pass

    def invoke(self) -> None:
        self.now += self.times[min(self.ran, len(self.times) - 1)]
        self.ran += 1

    def warmed(self, monkeypatch: pytest.MonkeyPatch, **plan: float) -> tuple[int, bool | None]:
        monkeypatch.setattr(agent.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(agent.time, "perf_counter_ns", lambda: round(self.now * 1e9))
        default = {"warmup_runs": 10, "warmup_seconds": 0, "max_seconds": 60}
        return agent.warm_up(self, [[0]], {**default, **plan})


def test_a_warm_up_ends_when_the_speed_has_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    cold = [0.02 - place / 1000 for place in range(10)]
    slower = Paced([*cold, *[0.01] * 3, *[0.012] * 8])
    with monkeypatch.context() as patch:
        assert Paced([0.01]).warmed(patch, warmup_max_seconds=5) == (10, True)
        assert Paced(cold).warmed(patch, warmup_max_seconds=5) == (20, True)
        assert slower.warmed(patch, warmup_max_seconds=5) == (30, True)


def test_a_warm_up_has_an_end_where_it_never_settles(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        slowing = Paced([0.01 * 1.1**place for place in range(500)])
        runs, settled = slowing.warmed(patch, warmup_max_seconds=2)
        assert settled is False
        assert runs % 10 == 0
        assert 2 <= sum(slowing.times[:runs]) < 6  # the last round is whole
        assert Paced([1.0, 2.0]).warmed(patch, warmup_runs=7) == (7, None)  # too few to tell
        assert Paced([0.03] * 5 + [0.01]).warmed(patch) == (10, False)  # no more rounds asked for
        assert Paced([5.0]).warmed(patch, max_seconds=1)[0] == 1


def program_says(request: dict[str, Any]) -> dict[str, Any]:
    """The reply of a process of its own, whose affinity is its own."""
    done = subprocess.run(
        [sys.executable, str(agent.__file__), "-"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=60,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode != 0) == ("error" in found)
    return found


def test_it_runs_on_the_cores_that_it_is_given(request_: dict[str, Any]) -> None:
    one = min(os.sched_getaffinity(0))
    reply = program_says({**request_, "cores": [one], "threads": 0})
    assert reply["runtime"]["threads"] == 1  # one a core, of those
    code = (
        "import json, os, sys; sys.path.insert(0, sys.argv[1]); import agent; "
        "agent.pin([int(sys.argv[2])]); print(sorted(os.sched_getaffinity(0)))"
    )
    folder = str(Path(agent.__file__).parent)
    argv = [sys.executable, "-c", code, folder, str(one)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"[{one}]"


@pytest.mark.parametrize("others", [[], [0]])
def test_cores_that_are_not_there_are_refused(request_: dict[str, Any], others: list[int]) -> None:
    missing = 1023 if (os.cpu_count() or 1) < 1023 else 10**6
    reply = program_says({**request_, "cores": [*others, missing]})
    assert reply["kind"] == "cores"
    assert "cannot run on the cores" in reply["error"]
    assert str(missing) in reply["error"]
    assert "samples_us" not in reply


@pytest.mark.parametrize("cores", [[-1], ["0"], [1 << 70], 5])
def test_cores_that_are_none(request_: dict[str, Any], cores: Any) -> None:
    assert program_says({**request_, "cores": cores})["kind"] in ("cores", "request")


class Counting:
    """A stateful model: it answers how often it ran since its state was made new."""

    ran = 0

    def reset(self) -> None:
        self.ran = 0

    def feed(self, sample: Any) -> None:
        pass

    def invoke(self) -> None:
        self.ran += 1

    def read(self) -> list[Any]:
        return [self.ran]


def test_each_sample_starts_from_a_fresh_state() -> None:
    (stack,) = agent.infer(Counting(), [[0], [0], [0]])
    assert stack.tolist() == [1, 1, 1]


def test_predicting_measures_nothing(request_: dict[str, Any]) -> None:
    reply = reply_to({**request_, "predict": True, "threads": 0, "runtime": None})
    assert not {"samples_us", "first_us", "memory"} & set(reply)
    assert Path(request_["outputs"]).is_file()


def test_outputs_only_where_asked_for(request_: dict[str, Any]) -> None:
    reply_to({**request_, "outputs": None})
    assert not Path(request_["outputs"]).exists()


def test_a_probe_says_which_runtime(request_: dict[str, Any]) -> None:
    reply = reply_to({"probe": True, "runtime": None})
    assert set(reply) == {"runtime"}
    assert reply["runtime"]["name"] == "litert"


def test_tflm_computes_the_same(request_: dict[str, Any], relu: Path) -> None:
    needs(find_spec("tflite_micro") is not None, "install the extra: edgepack[mcu]")
    reply = reply_to({**request_, "runtime": "tflm"})
    assert (reply["runtime"]["delegate"], reply["runtime"]["threads"]) == ("none", 1)
    with np.load(request_["outputs"]) as outputs:
        assert outputs["arr_0"].tolist() == [[[0, 2, 0, 4]], [[1, 0, 3, 0]]]


def test_tflm_gets_a_larger_arena_where_it_needs_one(
    request_: dict[str, Any], relu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(find_spec("tflite_micro") is not None, "install the extra: edgepack[mcu]")
    request = {**request_, "runtime": "tflm"}
    kind = __import__("tflite_micro").runtime.Interpreter
    whole, asked = kind.from_bytes, []

    def small(content: bytes, arena_size: int) -> Any:
        asked.append(arena_size)
        if len(asked) == 1:
            raise RuntimeError("TFLM failed to allocate tensors")
        return whole(content, arena_size=arena_size)

    monkeypatch.setattr(kind, "from_bytes", small)
    reply_to(request)
    assert len(asked) == 2
    assert asked[0] < asked[1]
    relu.write_bytes(model())
    assert refused(request) == ("load", "the model has no subgraph")


def test_an_open_dimension_takes_the_samples_size(tmp_path: Path, request_: dict[str, Any]) -> None:
    open_ended = [
        tensor("x", (1, 4), signature=(-1, 4)),
        tensor("y", (1, 4), signature=(-1, 4)),
    ]
    path = tmp_path / "open.tflite"
    path.write_bytes(model(subgraph(open_ended, [operator("RELU", [0], [1])], [0], [1])))
    stack = samples(tmp_path / "wide.npz", np.full((3, 2, 4), -1, np.float32))
    reply_to({**request_, "model": str(path), "inputs": str(stack)})
    with np.load(request_["outputs"]) as outputs:
        assert outputs["arr_0"].shape == (3, 2, 4)


@pytest.mark.parametrize(
    ("stacks", "message"),
    [
        ([np.zeros((1, 1, 4), np.int8)], "input 0 wants float32[1, 4], found int8[1, 4]"),
        ([np.zeros((1, 4), np.float32)], "input 0 wants float32[1, 4], found float32[4]"),
        ([np.zeros((0, 1, 4), np.float32)], "the same number of samples, at least one"),
        ([np.zeros((2, 1, 4), np.float32), np.zeros((1, 1), np.int8)], "the same number"),
        ([np.zeros((1, 1, 4), np.float32)] * 2, "the model has 1 inputs, found 2"),
        ([], "the model has 1 inputs, found 0"),
    ],
)
def test_inputs_that_do_not_suit(
    tmp_path: Path, request_: dict[str, Any], stacks: list[Any], message: str
) -> None:
    inputs = samples(tmp_path / "other.npz", *stacks)
    kind, said = refused({**request_, "inputs": str(inputs)})
    assert kind == "inputs"
    assert message in said


def test_files_that_are_not_what_they_should_be(tmp_path: Path, request_: dict[str, Any]) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"garbage" * 9)
    assert refused({**request_, "inputs": str(garbage)})[0] == "inputs"
    assert refused({**request_, "model": str(garbage)})[0] == "load"
    assert refused({**request_, "model": str(tmp_path / "absent")})[0] == "load"
    assert refused({**request_, "outputs": str(tmp_path / "no" / "out")})[0] == "outputs"
    assert refused({**request_, "runtime": "abacus"})[0] == "request"


def test_a_device_without_numpy_or_runtime(
    monkeypatch: pytest.MonkeyPatch, request_: dict[str, Any]
) -> None:
    for name in ("ai_edge_litert", "tflite_runtime", "tflite_micro"):
        monkeypatch.setitem(sys.modules, name, None)
    kind, said = refused({**request_, "runtime": None})
    assert kind == "no-runtime"
    assert [name for name in agent.RUNTIMES if f"{name}: import of" in said] == [*agent.RUNTIMES]
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert refused(request_)[0] == "no-numpy"


def test_tflite_runtime_is_not_used_with_a_numpy_that_breaks_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = type(sys)("tflite_runtime")
    fake.__version__ = "2.14.0"  # type: ignore[attr-defined]
    inner = type(sys)("tflite_runtime.interpreter")
    inner.Interpreter = dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tflite_runtime", fake)
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", inner)
    monkeypatch.setattr(np, "__version__", "2.1.0")
    with pytest.raises(agent.Failure, match=r"needs numpy < 2, found 2\.1\.0"):
        agent.load_runtime("tflite-runtime")
    monkeypatch.setattr(np, "__version__", "1.26.4")
    assert agent.load_runtime("tflite-runtime")[:2] == ("tflite-runtime", "2.14.0")


class Clockwork:
    """A session on a clock of its own: a feed takes 7 ns, an inference 1 ms."""

    def __init__(self, fails_at: int = 0) -> None:
        self.now, self.fed, self.ran, self.fails_at = 0, [], 0, fails_at

    def clock(self) -> int:
        return self.now

    def feed(self, sample: Any) -> None:
        self.now += 7
        self.fed.append(sample)

    def invoke(self) -> None:
        self.ran += 1
        if self.ran == self.fails_at:
            raise RuntimeError("\n  broken kernel\nmore")
        self.now += 1_000_000


def ticking(monkeypatch: pytest.MonkeyPatch, session: Clockwork) -> Clockwork:
    monkeypatch.setattr(time, "perf_counter_ns", session.clock)
    return session


@pytest.mark.parametrize(
    ("runs", "least", "most", "taken"),
    [(10, 0, 9, 10), (10, 0.05, 9, 50), (100, 0.05, 9, 100), (100, 0, 0.02, 20), (1, 0, 0, 1)],
)
def test_a_burst_lasts_for_a_count_and_a_time_within_a_limit(
    monkeypatch: pytest.MonkeyPatch, runs: int, least: float, most: float, taken: int
) -> None:
    session = ticking(monkeypatch, Clockwork())
    found = agent.burst(session, ["a", "b", "c"], runs, least, most)
    assert found == [1000.0] * taken
    assert session.fed == (["a", "b", "c"] * taken)[:taken]


def test_a_failure_within_a_burst_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, request_: dict[str, Any]
) -> None:
    session = ticking(monkeypatch, Clockwork(fails_at=4))
    reply: dict[str, Any] = {}
    with pytest.raises(agent.Failure, match=r"^broken kernel$") as caught:
        agent.measure(session, ["a"], request_, reply)
    assert caught.value.kind == "invoke"
    assert reply == {"warmup_runs": 2}


def test_what_a_kernel_may_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: Any, **__: Any) -> Any:
        raise PermissionError

    monkeypatch.setattr(Path, "read_text", denied)
    monkeypatch.setattr(Path, "write_text", denied)
    assert agent.memory("VmRSS") is None
    assert agent.forget_peak() is False


def test_each_sample_starts_anew_where_variables_are_kept_by_name(
    request_: dict[str, Any], tmp_path: Path
) -> None:
    ones = np.ones((3, 1, 2), np.float32)
    (tmp_path / "counter.tflite").write_bytes(counter())
    request_["model"] = str(tmp_path / "counter.tflite")
    request_["inputs"] = str(samples(tmp_path / "ones.npz", ones))
    reply_to(request_)
    with np.load(request_["outputs"]) as archive:
        assert archive["arr_0"].tolist() == ones.tolist()


def test_a_runtime_that_hides_its_nodes_has_an_unknown_delegate() -> None:
    session = object.__new__(agent.LiteSession)
    session.lite = object()
    assert session.delegate() == "unknown"


def run_main(argument: str, given: bytes = b"") -> tuple[int, Any]:
    """The agent as a device runs it."""
    argv = [sys.executable, str(Path(agent.__file__)), argument]
    done = subprocess.run(argv, input=given, capture_output=True, check=False, timeout=60)
    return done.returncode, json.loads(done.stdout)


def test_as_a_program_it_prints_one_object_and_no_chatter(
    request_: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps(request_))
    code, reply = run_main(str(file))
    assert (code, len(reply["samples_us"])) == (0, 5)
    assert run_main("-", json.dumps(request_).encode())[0] == 0


@pytest.mark.parametrize("given", [b"not json", b"{}", b"[]", b'{"model": 3, "inputs": 4}'])
def test_as_a_program_it_answers_whatever_it_is_asked(given: bytes) -> None:
    code, reply = run_main("-", given)
    assert code == 1
    assert reply["kind"] in ("request", "inputs")


def test_main_keeps_what_came_before_a_failure(request_: dict[str, Any], tmp_path: Path) -> None:
    file, saved, (reader, writer) = tmp_path / "r.json", os.dup(1), os.pipe()
    try:
        replies = []
        for outputs in (str(tmp_path / "no" / "out"), 5, None):
            file.write_text(json.dumps({**request_, "outputs": outputs}))
            os.dup2(writer, 1)
            code = agent.main(str(file))
            replies.append((code, json.loads(os.read(reader, 1 << 16))))
    finally:
        os.dup2(saved, 1)
        for descriptor in (saved, reader, writer):
            os.close(descriptor)
    assert [(code, reply.get("kind")) for code, reply in replies] == [
        (1, "outputs"),
        (1, "outputs"),
        (0, None),
    ]
    assert all(len(reply["samples_us"]) == 5 for _, reply in replies)


def test_the_state_of_this_device() -> None:
    argv = [sys.executable, str(Path(state.__file__))]
    done = subprocess.run(argv, capture_output=True, check=True, timeout=60)
    found = json.loads(done.stdout)
    assert found["device"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["device"]["bits"] in (32, 64)
    assert len(found["now"]["load"]) == 3


def test_a_board_that_tells_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = {
        "/proc/device-tree/model": "Raspberry Pi 4 Model B\0",
        "/proc/cpuinfo": "processor : 0\nHardware : BCM2835\n",
        "/proc/meminfo": "MemTotal: 1000 kB\nMemAvailable: 500 kB\n",
        "/etc/os-release": 'NAME=x\nPRETTY_NAME="Debian 12"\n',
        "/sys/class/thermal/thermal_zone0/temp": "51234\n",
        "/sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "/sys/class/thermal/thermal_zone1/temp": "broken\n",
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000\n",
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
    }
    for name, content in files.items():
        (tmp_path / name[1:]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name[1:]).write_text(content)
    real = Path
    monkeypatch.setattr(
        state,
        "Path",
        lambda path: (
            real(f"{tmp_path}{path}") if not str(path).startswith(str(tmp_path)) else real(path)
        ),
    )
    answers = {"vcgencmd": "throttled=0x50005", "dpkg": "armhf"}
    monkeypatch.setattr(state, "said", lambda *command: answers[command[0]])
    about, now = state.about_device(), state.now()
    assert (about["board"], about["cpu"]) == ("Raspberry Pi 4 Model B", "BCM2835")
    assert (about["os"], about["userland"], about["memory_bytes"]) == (
        "Debian 12",
        "armhf",
        1024000,
    )
    assert now["temperature_c"] == {"thermal_zone0 cpu-thermal": 51.234}
    assert (now["governor"], now["clock_khz"]) == ("ondemand", [1500000])
    assert (now["throttled"], now["memory_free_bytes"]) == ("0x50005", 512000)


def test_a_board_that_tells_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(state, "text", lambda path: None)
    monkeypatch.setattr(state, "cpu_files", lambda name: [])
    monkeypatch.delattr(os, "sched_getaffinity")
    about = state.about_device()
    assert about["cores"] >= 1
    assert not {"memory_bytes", "board", "os"} & set(about)


def test_files_that_are_absent_say_nothing() -> None:
    assert state.text("/no/such/file") is None
    assert state.field("/no/such/file", "a") is None
    assert state.kib("/no/such/file", "a") is None


def test_commands_that_are_absent_fail_or_answer() -> None:
    assert state.said("/no/such/command") is None
    assert state.said("false") is None
    assert state.said("echo", "hello") == "hello"
