"""Run a model on this host in a runtime of its own process: third-party files may abort it."""

from __future__ import annotations

import importlib.util
import json
import platform
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import EdgepackError, MeasureError, ModelError
from edgepack.runtimes import delivery, server

AGENT = Path(__file__).with_name("agent.py")
HOST = "litert-2.3"
"""The runtime that is installed with edgepack, so that it is on every host."""
CANNOT = {
    "load": "cannot load it",
    "allocate": "cannot prepare it",
    "invoke": "cannot run it",
    "inputs": "does not take these inputs",
}


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """A Python that can import the ``module`` of a runtime; ``name`` is the agent's name of it."""

    name: str
    module: str
    python: str
    environment: Mapping[str, str] = field(default_factory=dict)


def available(runtime_id: str) -> str | None:
    """None where ``infer`` can use the runtime on this host; else why it cannot."""
    try:
        interpreter(runtime_id)
    except EdgepackError as error:
        return f"{error.message}; {error.hint}" if error.hint else error.message
    return None


def interpreter(runtime_id: str) -> Interpreter:
    """The Python for a runtime such as ``litert-2.3``. Raises ModelError where there is none."""
    if runtime_id.startswith("litert"):
        return _own("litert", "ai_edge_litert.interpreter", "install ai-edge-litert")
    if runtime_id.startswith("tflm"):
        return _own("tflm", "tflite_micro", "install the extra: edgepack[mcu]")
    if runtime_id.startswith("tflite-runtime"):
        return _delivered(runtime_id)
    raise ModelError(f"no runtime '{runtime_id}' runs on this host")


def _own(name: str, module: str, hint: str) -> Interpreter:
    """A runtime that is installed beside edgepack."""
    package = module.partition(".")[0]
    if importlib.util.find_spec(package) is None:
        raise ModelError(f"the Python package {package} is not installed", hint)
    return Interpreter(name=name, module=module, python=sys.executable)


def _delivered(runtime_id: str) -> Interpreter:
    """A runtime that needs another numpy than edgepack: from a bundle, as a device gets it."""
    outcome = _bundle(runtime_id)
    if isinstance(outcome, MeasureError):
        raise ModelError(outcome.message, outcome.hint) from outcome
    environment = {"PYTHONPATH": str(outcome)}
    return Interpreter(
        name="tflite-runtime",
        module="tflite_runtime.interpreter",
        python=sys.executable,
        environment=environment,
    )


@cache
def _bundle(runtime_id: str) -> Path | MeasureError:
    """The bundle's folder, or why there is none: looked for once a process."""
    bits = 64 if sys.maxsize > 2**32 else 32
    libc, release = platform.libc_ver()
    glibc = tuple(int(part) for part in release.split(".")[:2]) if libc == "glibc" else None
    here = delivery.DevicePython(
        version=sys.version_info[:2],
        arch=delivery.arch(platform.machine(), bits),
        glibc=(glibc[0], glibc[1]) if glibc else None,
    )
    try:
        return delivery.folder(runtime_id, here)
    except MeasureError as error:
        return error


def infer(
    model: Path,
    inputs: Sequence[NDArray[Any]],
    runtime_id: str,
    *,
    threads: int = 1,
    timeout_s: float = 120,
) -> list[NDArray[Any]]:
    """The model's outputs for stacked samples, computed by a runtime in a child process.

    ``inputs`` and the result are in the order of the first subgraph's inputs and outputs; each
    array is (N, *full tensor shape) in the tensor's own dtype. Each sample starts from a fresh
    state. Raises ModelError where the runtime is not there, refuses the model, crashes or takes
    longer than ``timeout_s`` seconds.
    """
    request = {"threads": threads, "predict": True}
    return _answered(model, inputs, runtime_id, request, timeout_s)[1]


def timed(
    model: Path,
    inputs: Sequence[NDArray[Any]],
    runtime_id: str,
    *,
    runs: int,
    seconds: float,
    timeout_s: float = 120,
) -> list[float]:
    """Microseconds of single inferences on one thread of this host, after a short warm-up.

    As many as ``runs`` and as ``seconds`` take, but at most four times these seconds. Arguments
    and errors are as of ``infer``.
    """
    request = {
        "threads": 1,
        "warmup_runs": 5,
        "warmup_seconds": seconds / 4,
        "runs": runs,
        "min_seconds": seconds,
        "max_seconds": 4 * seconds,
    }
    reply, _ = _answered(model, inputs, runtime_id, request, timeout_s)
    return [float(sample) for sample in reply["samples_us"]]


def _answered(
    model: Path,
    inputs: Sequence[NDArray[Any]],
    runtime_id: str,
    asked: Mapping[str, Any],
    timeout_s: float,
) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """(the agent's reply, the outputs) for a request; see the agent for what it may ask."""
    chosen = interpreter(runtime_id)
    with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
        place = Path(folder)
        with (place / "inputs.npz").open("wb") as file:
            np.savez(file, *inputs)
        request = {
            "model": str(model.resolve()),
            "inputs": str(place / "inputs.npz"),
            "outputs": str(place / "outputs.npz"),
            "runtime": chosen.name,
            **asked,
        }
        (place / "request.json").write_text(json.dumps(request))
        try:
            returncode = server.run(
                chosen.python,
                chosen.module,
                chosen.environment,
                [str(AGENT), str(place / "request.json")],
                stdout=place / "stdout",
                stderr=place / "stderr",
                timeout_s=timeout_s,
            )
        except TimeoutError as error:
            raise ModelError(
                f"{model}: {runtime_id} did not finish within {timeout_s:g} s",
                "the model may hang the runtime, or there are too many samples for that time",
            ) from error
        who = f"{model}: {runtime_id}"
        reply = explain(who, returncode, place / "stdout", place / "stderr")
        with np.load(place / "outputs.npz", allow_pickle=False) as archive:
            return reply, [archive[f"arr_{index}"] for index in range(len(archive.files))]


def explain(who: str, returncode: int, stdout: Path, stderr: Path) -> dict[str, Any]:
    """The agent's reply. Raises ModelError in one line where it failed, crashed or said garbage."""
    chatter = stderr.read_text(errors="replace")
    if returncode < 0:
        raise ModelError(f"{who} crashed with {signal_name(-returncode)}{last_words(chatter)}")
    try:
        reply = json.loads(stdout.read_text(errors="replace"))
        if not isinstance(reply, dict):
            raise ValueError("not an object")
    except ValueError as error:
        raise ModelError(f"{who} ended with code {returncode}{last_words(chatter)}") from error
    if "error" in reply:
        failure = f"{CANNOT.get(str(reply.get('kind')), 'failed')}: {reply['error']}"
        raise ModelError(f"{who} {failure}{first_complaint(chatter, reply)}")
    return reply


def first_complaint(chatter: str, reply: Mapping[str, Any]) -> str:
    """TFLM's own reason, which it prints instead of raising it."""
    if reply.get("runtime", {}).get("name") != "tflm" or reply.get("kind") == "inputs":
        return ""
    lines = [line.strip() for line in chatter.splitlines() if line.strip()]
    return f" ({lines[0][:300]})" if lines else ""


def signal_name(number: int) -> str:
    """``SIGABRT`` and the like."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def last_words(chatter: str) -> str:
    """The last line that a process wrote to stderr, as the end of a sentence."""
    lines = [line.strip() for line in chatter.splitlines() if line.strip()]
    return f": {lines[-1][:300]}" if lines else ""
