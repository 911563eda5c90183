"""A model run in a child process: outputs, or one line, whatever the child does."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgepack.errors import MeasureError, ModelError
from edgepack.runtimes import child, delivery
from tests.unit.graph import flatbuffers

SAMPLES = [np.array([[[-1, 2]], [[3, -4]]], np.float32)]


@pytest.fixture
def relu(tmp_path: Path) -> Path:
    path = tmp_path / "relu.tflite"
    path.write_bytes(flatbuffers.relu(2))
    return path


@pytest.fixture
def behaves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Put a script in the agent's place."""

    def as_(script: str) -> None:
        file = tmp_path / "other_agent.py"
        file.write_text(f"import os, sys, time\n{script}\n")
        monkeypatch.setattr(child, "AGENT", file)

    return as_


def said(model_: Path, **options: float) -> str:
    with pytest.raises(ModelError) as caught:
        child.infer(model_, SAMPLES, "litert-2.3", **options)  # type: ignore[arg-type]
    assert "\n" not in caught.value.message
    return caught.value.message


def test_outputs_come_back_in_order(relu: Path) -> None:
    (output,) = child.infer(relu, SAMPLES, "litert-2.3")
    assert output.tolist() == [[[0, 2]], [[3, 0]]]


def test_a_refused_model_and_wrong_inputs(relu: Path, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.tflite"
    garbage.write_bytes(b"garbage" * 9)
    assert "garbage.tflite: litert-2.3 cannot load it: " in said(garbage)
    with pytest.raises(ModelError, match="does not take these inputs: input 0 wants"):
        child.infer(relu, [np.zeros((1, 3), np.int8)], "litert-2.3")


def test_a_crash_is_named_by_its_signal_with_its_last_words(behaves, relu: Path) -> None:
    behaves("print('INFO\\nCheck failed\\n', file=sys.stderr, flush=True); os.abort()")
    assert said(relu).endswith("relu.tflite: litert-2.3 crashed with SIGABRT: Check failed")


def test_garbage_is_no_reply(behaves, relu: Path) -> None:
    behaves("print('hello')")
    assert said(relu).endswith("ended with code 0")
    behaves("print('[1]'); print('bad', file=sys.stderr); sys.exit(3)")
    assert said(relu).endswith("ended with code 3: bad")


def test_a_hang_ends_with_the_deadline_and_leaves_nothing(
    behaves, relu: Path, tmp_path: Path
) -> None:
    behaves(f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(300)")
    began = time.monotonic()
    assert "did not finish within 1.5 s" in said(relu, timeout_s=1.5)
    assert time.monotonic() - began < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_tflms_own_reason_is_told(behaves, relu: Path) -> None:
    behaves(
        "print('Did not find LSTM', file=sys.stderr)\n"
        """print('{"error": "failed", "kind": "allocate", "runtime": {"name": "tflm"}}')"""
    )
    assert said(relu).endswith("cannot prepare it: failed (Did not find LSTM)")


def test_an_unknown_stage_and_an_unknown_signal(behaves, relu: Path) -> None:
    behaves("""print('{"error": "failed", "kind": "outputs"}')""")
    assert said(relu).endswith("litert-2.3 failed: failed")
    assert child.signal_name(99) == "signal 99"


def test_what_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    assert child.available("litert-2.3") is None
    assert child.available("abacus-1") == "no runtime 'abacus-1' runs on this host"
    monkeypatch.setattr(child.importlib.util, "find_spec", lambda name: None)
    reason = child.available("tflm")
    assert (
        reason
        == "the Python package tflite_micro is not installed; install the extra: edgepack[mcu]"
    )


def test_tflite_runtime_comes_from_a_bundle(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def folder(runtime_id: str, python: delivery.DevicePython) -> Path:
        asked.append((runtime_id, python))
        if len(asked) > 1:
            raise MeasureError("no network", "mend it")
        return tmp_path

    monkeypatch.setattr(delivery, "folder", folder)
    child._bundle.cache_clear()
    found = child.interpreter("tflite-runtime-2.14")
    assert child.interpreter("tflite-runtime-2.14") == found
    assert (found.python, found.environment) == (sys.executable, {"PYTHONPATH": str(tmp_path)})
    assert len(asked) == 1
    assert asked[0][1].version == sys.version_info[:2]
    child._bundle.cache_clear()
    assert child.available("tflite-runtime-2.14") == "no network; mend it"
    child._bundle.cache_clear()
