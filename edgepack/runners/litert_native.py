"""LiteRT's C library on a device that needs no Python, driven by a small program of our own.

The program and the library are built and fetched here, and sent. A device whose C library is
another one than they were linked for (Android's bionic, musl, an older glibc) gets that too, and
its loader starts the program. It runs on the CPU only: such a process cannot reach Android's
drivers for the GPU, which need bionic. No phone has been tried yet; an emulated one gave the host's
results bit by bit.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import EdgepackError, LinkError, MeasureError
from edgepack.graph import parse
from edgepack.graph.types import Graph
from edgepack.links.cache import delivered
from edgepack.links.link import Completed, Link, checked, last_line
from edgepack.records import RuntimeRecord
from edgepack.runners import conditions, replies
from edgepack.runners.replies import CRASHED, Reply
from edgepack.runners.runner import Abilities, Burst, check_arch
from edgepack.runtimes import building, delivery, native_library, state_lines, tables
from edgepack.spec.device import Device
from edgepack.spec.target import Protocol

DTYPES = frozenset(
    {"bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"}
    | {"float16", "float32", "float64", "complex64"}
)
"""Each was tried: its values came back as they went in. Others have no numpy type, or no size."""

LINK = """
while test $# -gt 1; do
  ln -s -- "$1" "$2" 2>/dev/null || cp -- "$1" "$2" || exit
  shift 2
done
"""
"""Gives files their names in another folder: pairs of a path and a path to be."""

HINTS = {
    "crash": CRASHED,
    "cores": "name cores that are there and allowed in the target's [measure]",
    "load": "`edgepack inspect` says what the model needs; litert-python may take it",
    "allocate": "`edgepack inspect` says which operators the model needs",
    "invoke": "the runner litert-python takes more models than LiteRT's C API",
    "outputs": "the runner litert-python takes outputs whose shape depends on the inputs",
}


class LiteRTNative:
    """One model on one device, by libLiteRt.so and the program in edgepack/runtimes/native."""

    abilities = Abilities(
        name="litert-native",
        arches=tables.load(native_library.RUNTIME).arches,
        dtypes=DTYPES,
        delegates=("xnnpack", "none"),
        variables=False,
        per_op=True,
        instead="tflite-runtime-python",
    )

    def __init__(self, link: Link, device: Device, place: str) -> None:
        self._link, self._device, self._place = link, device, place
        self._seconds = device.options.call_seconds
        self._facts: dict[str, Any] = {}
        self._command: list[str] = []
        self._library = self._model = ""
        self._stateful = False
        self._calls = 0
        self._inference_seconds = 0.05  # until a burst has told

    def prepare(self, model: Path) -> None:
        """Build or find the program and the library, send them and the model; see Runner."""
        graph = parse.read(model)
        check_model(self.abilities, graph)
        self._stateful = any(
            operator.name == "VAR_HANDLE"
            for subgraph in graph.subgraphs
            for operator in subgraph.operators
        )
        self._link.put(state_lines.SCRIPT, f"{self._place}/state.sh", timeout_s=self._seconds)
        self._facts = self._state()["device"]
        arch = arch_of(self._facts, self._device.id)
        check_arch(self.abilities, arch, self._device.id)
        self._library = self._kept(native_library.library(arch))
        self._command = self._start(arch)
        self._model = self._kept(model)

    def about(self) -> dict[str, Any]:
        """What the device says of itself; see Runner."""
        return dict(self._facts)

    def burst(
        self, inputs: Sequence[NDArray[Any]], protocol: Protocol, *, per_op: bool = False
    ) -> Burst:
        """Warm up, then measure; see Runner."""
        cores = conditions.cores_of(protocol, self._facts, self._device.id)
        before = conditions.cooled(lambda: dict(self._state()["now"]), protocol, self._device.id)
        plan, seconds = conditions.plan(protocol, cores), conditions.longest(protocol)
        plan |= {"per_op": int(per_op)}
        reply, outputs, lost = self._ask(inputs, plan, seconds + self._seconds)
        if reply.samples_us:
            self._inference_seconds = max(reply.samples_us) / 1e6
        after: dict[str, Any] = {}
        if lost is None:
            try:
                after = self._state()["now"]
            except EdgepackError as error:  # the samples are here: they must not be lost with it
                lost = error
        return replies.as_burst(
            reply,
            runtime=record(reply),
            outputs=outputs,
            before=before,
            after=after,
            failure=self._failure(reply) or lost,
        )

    def predict(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs of stacked samples; see Runner."""
        parts = []
        for chunk in replies.chunks(inputs, self._seconds, self._inference_seconds):
            reply, outputs, lost = self._ask(chunk, {"predict": 1}, self._seconds)
            if failure := self._failure(reply) or lost:
                raise failure
            parts.append(outputs)
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def _start(self, arch: str) -> list[str]:
        """How the program starts there: by itself, or by a C library's loader that is sent along.

        Raises MeasureError where neither works.
        """
        program, reasons = self._kept(building.program(arch), run=True), []
        if own_loader(self._facts):
            reply = self._run([program], ["probe=1"], self._seconds)
            if reply.error is None:
                return [program]
            reasons.append(f"with its own C library: {reply.error}")
        loader, *files = building.libc(arch)
        pairs = [(self._kept(file), f"{self._place}/{file.name}") for file in files]
        argv = ["sh", "-c", LINK, "sh", *(path for pair in pairs for path in pair)]
        checked(self._link, argv, timeout_s=self._seconds)  # the names that the loader looks for
        starter = building.started(self._kept(loader, run=True), self._place, program)
        reply = self._run(starter, ["probe=1"], self._seconds)
        if reply.error is not None:
            reasons.append(f"with the one that was sent: {reply.error}")
            raise MeasureError(
                f"litert-native does not run on {self._device.id}: {'; '.join(reasons)}",
                "may programs run from its workspace? else set options.workspace",
            )
        self._facts["runner_libc"] = "sent along"
        return starter

    def _kept(self, file: Path, *, run: bool = False) -> str:
        """The path of a file that is sent unless the device has it; ``run``: it is a program."""
        path = delivered(self._link, self._device.workspace, file, timeout_s=self._seconds)
        if run:
            checked(self._link, ["chmod", "700", path], timeout_s=self._seconds)
        return path

    def _state(self) -> dict[str, Any]:
        """What the device says of itself just now. Raises MeasureError where it has no shell."""
        done = self._link.run(["sh", f"{self._place}/state.sh"], timeout_s=self._seconds)
        found = state_lines.parse(done.stdout)
        if not found["device"]:
            reason = last_line(done.stderr.decode(errors="replace"))
            raise MeasureError(f"{self._device.id} does not say what it is: {reason}", "has it sh?")
        return found

    def _ask(
        self, inputs: Sequence[NDArray[Any]], plan: dict[str, Any], seconds: float
    ) -> tuple[Reply, list[NDArray[Any]], EdgepackError | None]:
        """The program's reply to samples, its outputs, and what kept them from being fetched."""
        self._calls += 1
        given, taken = (f"{self._place}/{what}-{self._calls}.raw" for what in ("in", "out"))
        count = len(inputs[0]) if inputs else 1
        arguments = [
            f"model={self._model}",
            f"inputs={given}",
            f"outputs={taken}",
            f"samples={count}",
            f"stateful={int(self._stateful)}",
            *(f"input={stack.dtype}:{','.join(map(str, stack.shape[1:]))}" for stack in inputs),
            *(f"{name}={words(value)}" for name, value in plan.items() if value != []),
        ]
        with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
            local = Path(folder) / "samples.raw"
            local.write_bytes(b"".join(np.ascontiguousarray(stack).tobytes() for stack in inputs))
            self._link.put(local, given, timeout_s=self._seconds)
            reply = self._run(self._command, arguments, seconds)
            if reply.error is not None:
                return reply, [], None
            try:
                self._link.get(taken, local, timeout_s=self._seconds)
                checked(self._link, ["rm", "-f", "--", given, taken], timeout_s=self._seconds)
                outputs = replies.unpacked(local.read_bytes(), reply.outputs, count, DTYPES)
            except (LinkError, MeasureError) as error:
                return reply, [], error
        return reply, outputs, None

    def _run(self, command: Sequence[str], arguments: Sequence[str], seconds: float) -> Reply:
        """The program's reply, with LiteRT's own words where it failed."""
        argv = [*command, f"library={self._library}", *arguments]
        done = self._link.run(argv, timeout_s=seconds)
        reply = replies.read(done, "runner")
        words = complaint(done) if reply.error is not None else ""
        return replace(reply, error=f"{reply.error} ({words})") if words else reply

    def _failure(self, reply: Reply) -> MeasureError | None:
        if reply.error is None:
            return None
        message = f"litert-native on {self._device.id}: {reply.error}"
        return MeasureError(message, HINTS.get(reply.kind, ""))


def words(value: object) -> str:
    """A value as the program reads it: a list with commas."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def check_model(abilities: Abilities, graph: Graph) -> None:
    """Raises MeasureError where LiteRT's C API does not take a model that other runners take."""
    hint = "use the runner litert-python"
    main = graph.main
    for index in (*main.inputs, *main.outputs):
        tensor = main.tensors[index]
        if abilities.dtypes is not None and tensor.dtype not in abilities.dtypes:
            raise MeasureError(
                f"{abilities.name} takes no inputs or outputs of type {tensor.dtype} "
                f"('{tensor.name}'): it knows {', '.join(sorted(abilities.dtypes))}",
                hint,
            )
    for subgraph in graph.subgraphs:
        for tensor in subgraph.tensors:
            if tensor.is_variable and not abilities.variables:
                raise MeasureError(
                    f"{abilities.name} takes no variable tensors ('{tensor.name}'): "
                    "LiteRT's C API does not load them",
                    hint,
                )


def arch_of(facts: dict[str, Any], device: str) -> str:
    """A target's arch from what a device says. Raises MeasureError where it says nothing."""
    machine, userland = facts.get("machine"), facts.get("userland")
    if machine is None:
        raise MeasureError(f"{device} does not say what machine it is", "has it uname?")
    bits = facts.get("bits") or (32 if userland in ("armhf", "armel", "i386") else 64)
    return delivery.arch(machine, 32 if userland == "armhf" else bits)


def own_loader(facts: dict[str, Any]) -> bool:
    """Whether programs for glibc can start by themselves: bionic and musl cannot run them."""
    loaders = {PurePosixPath(loader).name for loader in facts.get("loaders", ())}
    known = {toolchain.loader for toolchain in building.CROSS.values()}
    return bool(loaders & known) and not loaders & {"linker", "linker64"}


def record(reply: Reply) -> RuntimeRecord | None:
    """The runtime, once it had prepared the model."""
    if reply.init_us is None or reply.threads is None:
        return None
    return RuntimeRecord(
        name="litert",
        version=native_library.version(),
        threads=reply.threads,
        delegate=reply.delegate or "unknown",
        runner="litert-native",
    )


def complaint(done: Completed) -> str:
    """What LiteRT itself said first, which its C API turns into a number."""
    lines = done.stderr.decode(errors="replace").splitlines()
    errors = [line.removeprefix("ERROR: ").strip() for line in lines if line.startswith("ERROR: ")]
    return errors[0][:300] if errors else ""
