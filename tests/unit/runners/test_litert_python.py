"""The runner on this machine's own link, and on links and devices that fail."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepack.errors import LinkError, MeasureError, SpecError
from edgepack.links.link import Completed
from edgepack.links.local import LocalLink
from edgepack.runners import litert_python, replies
from edgepack.runners.litert_python import AnyPython, python_of, runtimes_of
from edgepack.runners.replies import crash
from edgepack.runners.runner import RUNNERS, session
from edgepack.runtimes import delivery
from edgepack.spec.device import Device, DeviceOptions
from edgepack.spec.target import Protocol
from tests.unit.graph import flatbuffers

QUICK = Protocol(warmup_runs=1, warmup_seconds=0, runs=3, min_seconds=0, max_seconds=20)
SAMPLES = [np.array([[[-1, 2]], [[3, -4]], [[5, 6]]], np.float32)]


@pytest.fixture
def relu(tmp_path: Path) -> Path:
    path = tmp_path / "relu.tflite"
    path.write_bytes(flatbuffers.relu(2))
    return path


@pytest.fixture
def here(tmp_path: Path) -> Device:
    options = DeviceOptions(workspace=str(tmp_path / "work"))
    return Device(id="here", target="generic-linux-x86_64", link="local", options=options)


class Frail(LocalLink):
    """A local link on which some programs fail, and of which some calls are lost."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, Any]] = []
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
        for part, answer in self.answers:
            if part in " ".join(argv) + (stdin or b"").decode():
                if isinstance(answer, LinkError):
                    raise answer
                return Completed(returncode=answer[0], stdout=answer[1], stderr=answer[2])
        return super().run(argv, timeout_s=timeout_s, env=env, stdin=stdin)


@pytest.fixture
def prepared(here: Device, relu: Path, tmp_path: Path) -> tuple[AnyPython, Frail]:
    link, place = Frail(), tmp_path / "job"
    place.mkdir()
    runner = AnyPython(link, here, str(place))
    runner.prepare(relu)
    return runner, link


@pytest.mark.parametrize("runner", [None, "litert-python"])
def test_a_whole_session(here: Device, relu: Path, runner: str | None) -> None:
    with session(here, relu, runner) as running:
        found = running.burst(SAMPLES, QUICK)
        assert running.about()["python"] == ".".join(map(str, sys.version_info[:3]))
        (predicted,) = running.predict(SAMPLES)
    assert (len(found.samples_us), found.warmup_runs, found.failure) == (3, 1, None)
    assert found.runtime is not None
    assert found.runtime.runner == "litert-python"
    assert found.memory is not None
    assert "load" in found.before
    assert "load" in found.after
    assert predicted.tolist() == found.outputs[0].tolist() == [[[0, 2]], [[3, 0]], [[5, 6]]]
    (cache,) = Path(here.workspace).iterdir()
    (model,) = cache.iterdir()
    assert (cache.name, model.read_bytes()) == ("cache", relu.read_bytes())


def test_many_samples_travel_in_chunks(
    prepared: tuple[AnyPython, Frail], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, link = prepared
    monkeypatch.setattr(replies, "CHUNK_BYTES", 2 * SAMPLES[0][0].nbytes)
    before = len(link.seen)
    assert runner.predict(SAMPLES)[0].tolist() == [[[0, 2]], [[3, 0]], [[5, 6]]]
    agents = [argv for argv in link.seen[before:] if argv[1].endswith("agent.py")]
    assert len(agents) == 2


def test_a_slow_model_gets_fewer_samples_a_call(
    prepared: tuple[AnyPython, Frail], here: Device
) -> None:
    runner, link = prepared
    runner._inference_seconds = here.options.call_seconds
    before = len(link.seen)
    assert len(runner.predict(SAMPLES)[0]) == 3
    agents = [argv for argv in link.seen[before:] if argv[1].endswith("agent.py")]
    assert len(agents) == 3


def test_an_unknown_runner_is_named(here: Device, relu: Path) -> None:
    with pytest.raises(SpecError, match="abacus") as caught, session(here, relu, "abacus"):
        pass
    assert all(name in caught.value.hint for name in RUNNERS)


def test_a_failure_on_the_device_is_kept_with_its_kind(
    here: Device, prepared: tuple[AnyPython, Frail]
) -> None:
    runner, _ = prepared
    wrong = [np.zeros((1, 3), np.int8)]
    found = runner.burst(wrong, QUICK)
    assert "input 0 wants float32[1, 2]" in str(found.failure)
    assert (found.refused, found.memory, found.samples_us) == (False, None, ())
    assert found.init_us is not None
    assert found.runtime is not None
    with pytest.raises(MeasureError, match="litert on here: input 0 wants"):
        runner.predict(wrong)
    (model,) = Path(here.workspace).glob("cache/*")
    model.write_bytes(b"garbage" * 9)
    found = runner.burst(SAMPLES, QUICK)
    assert (found.refused, found.runtime) == (True, None)


@pytest.mark.parametrize("lost", ["rm -f", "state.py"])
def test_samples_are_not_lost_with_the_link(
    prepared: tuple[AnyPython, Frail], lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, link = prepared
    whole = runner._run

    def then_lost(request: dict[str, Any], seconds: float) -> dict[str, Any]:
        reply = whole(request, seconds)
        link.answers.append((lost, LinkError("lost")))
        return reply

    monkeypatch.setattr(runner, "_run", then_lost)
    found = runner.burst(SAMPLES, QUICK)
    assert len(found.samples_us) == 3
    assert isinstance(found.failure, LinkError)
    assert found.after == {}


def test_a_lost_link_while_predicting(prepared: tuple[AnyPython, Frail]) -> None:
    runner, link = prepared
    link.answers.append(("rm -f", LinkError("lost")))
    with pytest.raises(LinkError, match="lost"):
        runner.predict(SAMPLES)


@pytest.mark.parametrize("answer", [b"[1]", b"garbage", b""])
def test_a_reply_that_is_none(prepared: tuple[AnyPython, Frail], answer: bytes) -> None:
    runner, link = prepared
    link.answers.append(("agent.py", (3, answer, b"some\nnoise\n")))
    found = runner.burst(SAMPLES, QUICK)
    assert "the agent ended with code 3: noise" in str(found.failure)


@pytest.mark.parametrize(
    ("code", "stderr", "message"),
    [
        (134, b"Check failed\nAborted\n", "crashed with SIGABRT: Check failed"),
        (137, b"Killed\n", "crashed with SIGKILL, perhaps for want of memory: no message"),
        (139, b"", "crashed with SIGSEGV: no message"),
        (255, b"", "the agent ended with code 255: no message"),
        (2, b"bad\n", "the agent ended with code 2: bad"),
    ],
)
def test_what_a_process_died_of(code: int, stderr: bytes, message: str) -> None:
    assert crash(Completed(returncode=code, stdout=b"", stderr=stderr), "agent") == message


NOTHING = (1, json.dumps({"error": "litert: absent", "kind": "no-runtime"}).encode(), b"")


def test_nothing_there_and_nothing_to_deliver(
    here: Device, relu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(runtime_id: str, python: delivery.DevicePython) -> Path:
        assert python.version == sys.version_info[:2]
        raise MeasureError(f"no {runtime_id}", "install it")

    link = Frail()
    link.answers.append(("probe", NOTHING))
    monkeypatch.setattr(delivery, "bundle", none)
    with pytest.raises(MeasureError, match="no runtime runs on here") as caught:
        AnyPython(link, here, str(tmp_path)).prepare(relu)
    assert "no litert-2.3; no tflite-runtime-2.14" in caught.value.message
    assert caught.value.hint == "install it"


def test_a_bundle_that_does_not_load_there(
    here: Device, relu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tarfile

    (tmp_path / "module.py").write_text("")
    archive = tmp_path / "bundle.tar.gz"
    with tarfile.open(archive, "w:gz") as members:
        members.add(tmp_path / "module.py", "package/module.py")
    monkeypatch.setattr(delivery, "bundle", lambda *_: archive)
    link, place = Frail(), tmp_path / "job"
    place.mkdir()
    link.answers.append(("probe", NOTHING))
    runner = AnyPython(link, here, str(place))
    with pytest.raises(MeasureError, match="no runtime runs on here"):
        runner.prepare(relu)
    (unpacked,) = Path(here.workspace).glob("cache/*")
    assert (unpacked / "package" / "module.py").is_file()
    assert "PYTHONPATH" not in runner._environment


def test_a_bundle_with_an_unsafe_member_is_refused_on_the_device(tmp_path: Path) -> None:
    import io
    import tarfile

    for name in ("../evil", "/evil", "a/../../evil"):
        archive = tmp_path / "evil.tar"
        with tarfile.open(archive, "w") as members:
            members.addfile(tarfile.TarInfo(name), io.BytesIO())
        argv = [
            sys.executable,
            "-c",
            litert_python.UNPACK,
            str(archive),
            f"{tmp_path}/to",
            f"{tmp_path}/out",
        ]
        done = LocalLink().run(argv, timeout_s=20)
        assert done.returncode == 1
        assert b"unsafe member" in done.stderr
    assert not (tmp_path / "evil").exists()


def test_which_python_and_which_runtime() -> None:
    def device(link: Any, **options: Any) -> Device:
        chosen = DeviceOptions(**options)
        return Device(id="d", target="t", link=link, address="a", options=chosen)

    assert python_of(device("local")) == sys.executable
    assert python_of(device("local", python="/opt/python")) == "/opt/python"
    assert python_of(device("ssh")) == "python3"
    names = AnyPython.names
    assert runtimes_of(device("ssh"), names) == names
    assert runtimes_of(device("ssh", runtime="tflite-runtime-2.14"), names) == ("tflite-runtime",)
    assert runtimes_of(device("ssh", runtime="litert"), ("tflite-runtime",)) == ("tflite-runtime",)
