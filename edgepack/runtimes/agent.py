"""The one file that runs a model on a device: each sample once, or a timed burst.

``python3 agent.py REQUEST.json`` (``-``: stdin) writes one JSON object to stdout, all chatter
to stderr. It needs Python 3.8, numpy and one runtime, and imports nothing else of edgepack.

A request: ``model`` (path), ``inputs`` (npz: arr_0, arr_1, … in the order of the first subgraph's
inputs, each (N, *full tensor shape) in the tensor's own dtype), ``outputs`` (npz to write likewise,
or null), ``runtime`` (``litert``, ``tflite-runtime``, ``tflm`` or null: the first there),
``cores`` (numbers to run on, or null), ``threads`` (0: one a core), ``predict`` (true: each sample
once, no burst), and for a burst ``warmup_runs warmup_seconds warmup_max_seconds runs min_seconds
max_seconds``. With ``probe`` (true) and ``runtime`` alone it only says which runtime would run.
A failure is ``{"error": …, "kind": …}`` beside what was measured before it, with exit code 1;
``kind`` is one of no-numpy, no-runtime, request, cores, inputs, load, allocate, invoke, outputs.
"""
# ruff: noqa: B905 - zip knows no `strict` in Python 3.8

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RUNTIMES = ("litert", "tflite-runtime", "tflm")
STEADY, FEWEST = 0.05, 8
"""How far the halves' medians of a warm-up may be apart, and the runs that it takes to judge it."""


class Failure(Exception):
    """What went wrong, by the stage in which it did."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def one_line(error: BaseException) -> str:
    """The first line of an exception's text that says something.

    numpy's says it last, after words of welcome.
    """
    text = str(error).rpartition("Original error was:")[2]
    return next(filter(None, map(str.strip, text.splitlines())), type(error).__name__)


def staged(kind: str, act: Callable[..., Any], *values: Any) -> Any:
    """What ``act(*values)`` returns; its exception as a Failure of that kind."""
    try:
        return act(*values)
    except Exception as error:
        raise Failure(kind, one_line(error)) from error


def load_runtime(name: str | None) -> tuple[str, str, Callable[..., Any]]:
    """(name, version, session's class) of the runtime asked for, or of the first one there."""
    try:
        import numpy  # noqa: F401
    except ImportError as error:
        raise Failure("no-numpy", one_line(error)) from error
    reasons = []
    for candidate in [name] if name else RUNTIMES:
        try:
            return (candidate, *import_runtime(candidate))
        except (ImportError, SystemError, OSError, AttributeError) as error:
            reasons.append(f"{candidate}: {one_line(error)}")
    raise Failure("no-runtime", "; ".join(reasons))


def import_runtime(name: str) -> tuple[str, Callable[..., Any]]:
    """(version, function from model bytes, threads and input shapes to a session)."""
    if name == "litert":
        import ai_edge_litert
        from ai_edge_litert.interpreter import Interpreter

        return ai_edge_litert.__version__, lambda *a: LiteSession(Interpreter, *a)
    if name == "tflite-runtime":
        import numpy
        import tflite_runtime
        from tflite_runtime.interpreter import Interpreter

        if not numpy.__version__.startswith("1."):
            raise ImportError(f"tflite_runtime needs numpy < 2, found {numpy.__version__}")
        return tflite_runtime.__version__, lambda *a: LiteSession(Interpreter, *a)
    if name == "tflm":
        import tflite_micro

        return tflite_micro.__version__, lambda *a: MicroSession(tflite_micro.runtime, *a)
    raise Failure("request", f"unknown runtime {name!r}: one of {', '.join(RUNTIMES)}")


class LiteSession:
    """An interpreter of ai_edge_litert or tflite_runtime: their Python API is the same."""

    def __init__(self, kind: Any, content: bytes, threads: int, shapes: list[Any]) -> None:
        self.threads = threads
        lite = staged("load", lambda: kind(model_content=content, num_threads=threads))
        for detail, shape in zip(lite.get_input_details(), shapes):
            signature = detail["shape_signature"]
            free = len(signature) == len(shape) and all(
                want in (-1, found) for want, found in zip(signature, shape)
            )
            if free and tuple(detail["shape"]) != shape:
                staged("inputs", lite.resize_tensor_input, detail["index"], shape)
        staged("allocate", lite.allocate_tensors)
        self.lite, self.invoke, self.reset = lite, lite.invoke, lite.reset_all_variables
        if "VAR_HANDLE" in self.nodes():  # what it names is beyond the reach of a reset
            self.reset = lambda: LiteSession.__init__(self, kind, content, threads, shapes)
        details = lite.get_input_details()
        self.inputs = [(d["index"], tuple(d["shape"]), d["dtype"]) for d in details]
        self.outputs = [detail["index"] for detail in lite.get_output_details()]

    def feed(self, sample: list[Any]) -> None:
        """Copy one sample into the input tensors."""
        for (index, _, _), value in zip(self.inputs, sample):
            self.lite.set_tensor(index, value)

    def read(self) -> list[Any]:
        """Copies of the output tensors."""
        return [self.lite.get_tensor(index) for index in self.outputs]

    def nodes(self) -> set[str]:
        """The nodes' names, a delegate's too; none where this version does not say."""
        wrapper: Any = getattr(self.lite, "_interpreter", None)
        count = wrapper.NumNodes() if hasattr(wrapper, "NumNodes") else 0
        return {wrapper.NodeName(node) for node in range(count)}

    def delegate(self) -> str:
        """``xnnpack`` where it took nodes: these wheels apply no other delegate by themselves."""
        names = self.nodes()
        return "xnnpack" if "DELEGATE" in names else "none" if names else "unknown"


class MicroSession:
    """TFLM's own interpreter, with an arena that grows until the model fits."""

    def __init__(self, runtime: Any, content: bytes, threads: int, shapes: list[Any]) -> None:
        self.threads = 1
        graph = staged("load", runtime.schema_fb.Model.GetRootAsModel, content, 0)
        if not staged("load", graph.SubgraphsLength):
            raise Failure("load", "the model has no subgraph")
        first = graph.Subgraphs(0)
        self.micro = staged("allocate", self._fitted, runtime.Interpreter, content)
        self.invoke, self.reset = self.micro.invoke, self.micro.reset
        details = enumerate(map(self.micro.get_input_details, range(first.InputsLength())))
        self.inputs = [(place, tuple(d["shape"]), d["dtype"]) for place, d in details]
        self.outputs = range(first.OutputsLength())

    @staticmethod
    def _fitted(kind: Any, content: bytes) -> Any:
        try:
            return kind.from_bytes(content, arena_size=16 << 20)
        except RuntimeError:
            return kind.from_bytes(content, arena_size=512 << 20)

    def feed(self, sample: list[Any]) -> None:
        """Copy one sample into the input tensors."""
        for (index, _, _), value in zip(self.inputs, sample):
            self.micro.set_input(value, index)

    def read(self) -> list[Any]:
        """Copies of the output tensors."""
        return [self.micro.get_output(index) for index in self.outputs]

    def delegate(self) -> str:
        """TFLM has none."""
        return "none"


def read_inputs(path: str) -> list[Any]:
    """The stacked inputs in order. Raises Failure where they are not an npz of equal counts."""
    import numpy as np

    with staged("inputs", lambda: np.load(path, allow_pickle=False)) as archive:
        count = range(len(archive.files))
        stacks = staged("inputs", lambda: [archive[f"arr_{place}"] for place in count])
    if len({len(stack) for stack in stacks}) > 1 or not all(map(len, stacks)):
        raise Failure("inputs", "every input needs the same number of samples, at least one")
    return list(stacks)


def checked(session: Any, stacks: list[Any]) -> list[list[Any]]:
    """The samples as lists of arrays, proved to suit the model's inputs."""
    import numpy as np

    if len(stacks) != len(session.inputs):
        raise Failure("inputs", f"the model has {len(session.inputs)} inputs, found {len(stacks)}")
    for place, ((_, shape, dtype), stack) in enumerate(zip(session.inputs, stacks)):
        wanted = f"{np.dtype(dtype).name}{list(map(int, shape))}"
        found = f"{stack.dtype.name}{list(stack.shape[1:])}"
        if wanted != found:
            raise Failure("inputs", f"input {place} wants {wanted}, found {found}")
    samples = zip(*stacks) if stacks else [()]  # a model without inputs has one sample
    return [[np.asarray(part, order="C") for part in sample] for sample in samples]


def infer(session: Any, samples: list[list[Any]]) -> list[Any]:
    """The outputs of each sample, run once from a fresh state: one stack for each output."""
    import numpy as np

    rows = []
    for sample in samples:
        session.reset()
        session.feed(sample)
        session.invoke()
        rows.append([np.array(value) for value in session.read()])
    return [np.stack(column) for column in zip(*rows)]


def burst(session: Any, samples: list[Any], runs: int, least: float, most: float) -> list[float]:
    """Microseconds of single inferences, until ``runs`` *and* ``least`` seconds, or ``most``."""
    clock, invoke, feed, count = time.perf_counter_ns, session.invoke, session.feed, len(samples)
    taken: list[int] = []
    start = clock()
    enough, limit = start + int(least * 1e9), start + int(most * 1e9)
    gc.disable()
    try:
        while True:
            feed(samples[len(taken) % count])
            begin = clock()
            invoke()  # only this stands between two readings of the clock
            end = clock()
            taken.append(end - begin)
            if end >= limit or (end >= enough and len(taken) >= runs):
                return [nanoseconds / 1e3 for nanoseconds in taken]
    finally:
        gc.enable()


def warm_up(session: Any, samples: list[Any], request: Any) -> tuple[int, bool | None]:
    """(runs, whether the speed had settled, None where they are too few to tell).

    Rounds of ``warmup_runs`` and ``warmup_seconds`` until the medians of a round's halves agree,
    or ``warmup_max_seconds`` are over.
    """
    rounds = (request["warmup_runs"], request["warmup_seconds"], request["max_seconds"])
    runs, end = 0, time.perf_counter() + request.get("warmup_max_seconds", 0)
    while True:
        taken = burst(session, samples, *rounds)
        runs, half = runs + len(taken), len(taken) // 2
        one, other = (
            sorted(part)[len(part) // 2] for part in (taken[:half] or taken, taken[half:])
        )
        settled = abs(one - other) <= STEADY * other if len(taken) >= FEWEST else None
        if settled is not False or time.perf_counter() >= end:
            return runs, settled


def pin(cores: list[int]) -> None:
    """Run on these cores only, as do the threads that are started later. Failure where it can't."""
    try:
        os.sched_setaffinity(0, cores)
        missing = sorted(set(cores) - os.sched_getaffinity(0))
    except (AttributeError, OSError, OverflowError, TypeError, ValueError) as error:
        raise Failure("cores", f"cannot run on the cores {cores}: {one_line(error)}") from error
    if missing:  # the kernel ignores what is not there
        raise Failure("cores", f"cannot run on the cores {missing}: not there, or not allowed")


def memory(name: str) -> int | None:
    """``VmRSS`` or ``VmHWM`` of this process in bytes, or None."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
    except (OSError, StopIteration):
        return None


def forget_peak() -> bool:
    """Let the peak start anew, so that imports do not count. True where the kernel can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return True
    except OSError:
        return False


def answer(request: dict[str, Any], reply: dict[str, Any]) -> None:
    """Fill the reply to a request, step by step, so that a failure keeps what came before."""
    cores = request.get("cores") or []
    if cores:  # before anything can start a thread
        pin(cores)
    name, version, opened = load_runtime(request.get("runtime"))
    import numpy as np

    reply["runtime"] = {"name": name, "version": version, "numpy": np.__version__}
    if request.get("probe"):
        return
    stacks = read_inputs(request["inputs"])
    threads = request.get("threads", 1) or len(set(cores)) or os.cpu_count() or 1
    since_load, before = forget_peak(), memory("VmRSS")
    content, start = staged("load", Path(request["model"]).read_bytes), time.perf_counter_ns()
    session = opened(content, threads, [stack.shape[1:] for stack in stacks])
    reply["init_us"] = (time.perf_counter_ns() - start) / 1e3
    reply["runtime"].update(threads=session.threads, delegate=session.delegate())
    samples = checked(session, stacks)
    if not request.get("predict"):
        (reply["first_us"],) = staged("invoke", burst, session, samples, 1, 0, 0)
        peak = memory("VmHWM")  # now: the raw samples of a long burst are not the model's memory
        share = max(0, peak - before) if peak and before else None
        reply["memory"] = {"peak_rss_bytes": peak, "model_bytes": share, "since_load": since_load}
        measure(session, samples, request, reply)
    if request.get("outputs"):
        outputs = staged("invoke", infer, session, samples)
        with staged("outputs", lambda: Path(request["outputs"]).open("wb")) as file:
            staged("outputs", lambda: np.savez(file, *outputs))


def measure(session: Any, samples: list[Any], request: Any, reply: dict[str, Any]) -> None:
    """Add the raw samples of a burst after a warm-up to the reply."""
    reply["warmup_runs"], settled = staged("invoke", warm_up, session, samples, request)
    reply.update({} if settled is None else {"settled": settled})
    runs = (request["runs"], request["min_seconds"], request["max_seconds"])
    reply["samples_us"] = staged("invoke", burst, session, samples, *runs)


def main(path: str) -> int:
    """Answer the request in a file; 0, or 1 where it failed."""
    reply_to = os.dup(1)
    os.dup2(2, 1)  # what a runtime prints must not mix with the reply
    reply: dict[str, Any] = {}
    try:
        answer(json.loads(sys.stdin.read() if path == "-" else Path(path).read_text()), reply)
    except Failure as failure:
        reply.update(error=str(failure), kind=failure.kind)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reply.update(error=f"{type(error).__name__}: {one_line(error)}", kind="request")
    with os.fdopen(reply_to, "w") as file:
        file.write(json.dumps(reply) + "\n")
    return 1 if "error" in reply else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
