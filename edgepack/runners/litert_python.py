"""The LiteRT agent on a device's Python, with the runtime that is there or a delivered one."""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import EdgepackError, LinkError, MeasureError
from edgepack.links.cache import delivered
from edgepack.links.link import Link, checked, last_line
from edgepack.records import RuntimeRecord
from edgepack.runners import conditions, facts, replies
from edgepack.runners.replies import CRASHED, Reply
from edgepack.runners.runner import Abilities, Burst, check_arch
from edgepack.runtimes import agent, delivery, state, tables
from edgepack.spec.device import Device
from edgepack.spec.target import Protocol

log = logging.getLogger(__name__)

DELIVERED = {"litert": "litert-2.3", "tflite-runtime": "tflite-runtime-2.14"}
"""The runtime that is delivered where a device has none of that name."""

UNPACK = """
import os, sys, tarfile
packed, folder, part = sys.argv[1:]
with tarfile.open(packed) as bundle:
    for member in bundle:
        if not member.isfile() or member.name[0] == "/" or ".." in member.name.split("/"):
            sys.exit("unsafe member: " + member.name)
        bundle.extract(member, part)
os.rename(part, folder)
os.remove(packed)
"""
"""Unpacks below the job's own folder; in the cache a bundle appears whole or not at all."""
DAMAGED = (OSError, ValueError, EOFError, KeyError, AttributeError, BadZipFile, zlib.error)
"""What numpy raises for an archive that is none."""
HINTS = {
    "crash": CRASHED,
    "cores": "name cores that are there and allowed in the target's [measure]",
    "load": "`edgepack inspect` says what the model needs",
    "allocate": "`edgepack inspect` says which operators the model needs",
    "no-runtime": "see `--runner` and options.python in the device's TOML",
}


class AnyPython:
    """The first runtime that the device's Python has; else the first that can be delivered."""

    abilities = Abilities(name="litert-python or tflite-runtime-python")
    names: tuple[str, ...] = ("litert", "tflite-runtime")

    def __init__(self, link: Link, device: Device, place: str) -> None:
        self._link, self._device, self._place = link, device, place
        self._seconds = device.options.call_seconds
        self._python = python_of(device)
        self._environment = {"PYTHONDONTWRITEBYTECODE": "1"}
        self._facts: dict[str, Any] = {}
        self._runtime = self._model = ""
        self._calls = 0
        self._inference_seconds = 0.05  # until a burst has told

    def prepare(self, model: Path) -> None:
        """Find or deliver the runtime, and send the model; see Runner."""
        for module in (agent, state):
            self._send(Path(str(module.__file__)))
        self._facts = self._state()["device"]
        check_arch(self.abilities, self._arch(), self._device.id)
        wanted = runtimes_of(self._device, self.names)
        reasons: list[str] = []
        self._runtime = self._found(wanted, reasons) or self._delivered(wanted, reasons)
        self._model = delivered(self._link, self._device.workspace, model, timeout_s=self._seconds)

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
        reply, outputs, lost = self._ask(inputs, plan, seconds + self._seconds)
        after: dict[str, Any] = {}
        if reply.samples_us:
            self._inference_seconds = max(reply.samples_us) / 1e6
        if lost is None:
            try:
                after = self._state()["now"]
            except EdgepackError as error:  # the samples are here: they must not be lost with it
                lost = error
        return replies.as_burst(
            reply,
            runtime=self._record(reply),
            outputs=outputs,
            before=before,
            after=after,
            failure=self._failure(reply) or lost,
        )

    def predict(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs of stacked samples; see Runner."""
        parts = []
        for chunk in replies.chunks(inputs, self._seconds, self._inference_seconds):
            reply, outputs, lost = self._ask(chunk, {"predict": True}, self._seconds)
            if failure := self._failure(reply) or lost:
                raise failure
            parts.append(outputs)
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def _found(self, wanted: Sequence[str], reasons: list[str]) -> str | None:
        """The first runtime that the device's Python can load by itself."""
        for name in wanted:
            reply = self._run({"probe": True, "runtime": name}, self._seconds)
            if reply.error is None:
                return name
            reasons.append(reply.error)
        return None

    def _delivered(self, wanted: Sequence[str], reasons: list[str]) -> str:
        """The first runtime that can be sent and then loads there. Raises MeasureError."""
        hint = HINTS["no-runtime"]
        for name in wanted:
            try:
                archive = delivery.bundle(DELIVERED[name], self._described())
            except MeasureError as error:
                reasons.append(error.message)
                hint = error.hint or hint
                continue
            self._environment["PYTHONPATH"] = self._unpacked(archive)
            if self._found([name], reasons):
                return name
            del self._environment["PYTHONPATH"]
        raise MeasureError(f"no runtime runs on {self._device.id}: {'; '.join(reasons)}", hint)

    def _unpacked(self, archive: Path) -> str:
        """The folder on the device with a bundle's content, kept for the next time."""
        root = self._device.workspace
        folder = f"{root}/cache/{archive.name.removesuffix('.tar.gz')}"
        known = 'test -d "$1" && touch -- "$1"'
        if self._link.run(["sh", "-c", known, "sh", folder], timeout_s=self._seconds).returncode:
            log.info("sending %s to %s", archive.name, self._device.id)
            packed = delivered(self._link, root, archive, timeout_s=self._seconds)
            argv = [self._python, "-c", UNPACK, packed, folder, f"{self._place}/unpacked"]
            checked(self._link, argv, timeout_s=self._seconds)
        return folder

    def _described(self) -> delivery.DevicePython:
        major, minor = (int(part) for part in self._facts["python"].split(".")[:2])
        libc, _, release = self._facts.get("libc", "").partition(" ")
        numbers = [int(part) for part in release.split(".")[:2] if part.isdigit()]
        script = "import numpy; print(numpy.__version__)"
        done = self._link.run([self._python, "-c", script], timeout_s=self._seconds)
        return delivery.DevicePython(
            version=(major, minor),
            arch=self._arch(),
            glibc=(numbers[0], numbers[1]) if libc == "glibc" and len(numbers) == 2 else None,
            numpy=done.stdout.decode().strip() or None if done.returncode == 0 else None,
        )

    def _arch(self) -> str:
        return delivery.arch(self._facts["machine"], self._facts["bits"])

    def _send(self, file: Path) -> None:
        self._link.put(file, f"{self._place}/{file.name}", timeout_s=self._seconds)

    def _state(self) -> dict[str, Any]:
        """What the device says of itself just now."""
        argv = [self._python, f"{self._place}/state.py"]
        done = self._link.run(argv, timeout_s=self._seconds, env=self._environment)
        found = facts.read(done.stdout)
        if found is None:
            reason = last_line(done.stderr.decode(errors="replace"))
            raise MeasureError(
                f"`{self._python}` does not run on {self._device.id}: {reason}",
                "install python3 (3.8 or later) there, set options.python in its TOML, or use "
                "--runner litert-native, which needs none",
            )
        return found

    def _ask(
        self, inputs: Sequence[NDArray[Any]], plan: dict[str, Any], seconds: float
    ) -> tuple[Reply, list[NDArray[Any]], EdgepackError | None]:
        """The agent's reply to samples, its outputs, and what kept them from being fetched."""
        self._calls += 1
        given, taken = (f"{self._place}/{what}-{self._calls}.npz" for what in ("in", "out"))
        request = {
            "model": self._model,
            "inputs": given,
            "outputs": taken,
            "runtime": self._runtime,
            **plan,
        }
        with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
            local = Path(folder) / "samples.npz"
            with local.open("wb") as file:
                np.savez(file, *inputs)
            self._link.put(local, given, timeout_s=self._seconds)
            reply = self._run(request, seconds)
            if reply.error is not None:
                return reply, [], None
            try:
                self._link.get(taken, local, timeout_s=self._seconds)
                checked(self._link, ["rm", "-f", "--", given, taken], timeout_s=self._seconds)
            except LinkError as error:
                return reply, [], error
            try:
                with np.load(local, allow_pickle=False) as archive:
                    outputs = [archive[f"arr_{index}"] for index in range(len(archive.files))]
            except DAMAGED as error:
                failure = MeasureError(
                    f"the outputs came back damaged: {type(error).__name__}",
                    "is the device out of room? see options.workspace",
                )
                return reply, [], failure
        return reply, outputs, None

    def _run(self, request: dict[str, Any], seconds: float) -> Reply:
        """The agent's reply; a crash becomes a reply that names the signal."""
        argv = [self._python, f"{self._place}/agent.py", "-"]
        content = json.dumps(request).encode()
        done = self._link.run(argv, timeout_s=seconds, env=self._environment, stdin=content)
        return replies.read(done, "agent")

    def _record(self, reply: Reply) -> RuntimeRecord | None:
        found = reply.runtime
        if found is None or found.threads is None or found.delegate is None:
            return None
        return RuntimeRecord(
            name=found.name,
            version=found.version,
            threads=found.threads,
            delegate=found.delegate,
            runner=f"{found.name}-python",
        )

    def _failure(self, reply: Reply) -> MeasureError | None:
        if reply.error is None:
            return None
        message = f"{self._runtime} on {self._device.id}: {reply.error}"
        return MeasureError(message, HINTS.get(reply.kind, ""))


class LiteRTPython(AnyPython):
    """LiteRT's Python interpreter only."""

    abilities = Abilities(
        name="litert-python",
        arches=tables.load(DELIVERED["litert"]).arches,
        instead="tflite-runtime-python",
    )
    names = ("litert",)


class TFLiteRuntimePython(AnyPython):
    """The tflite-runtime package only."""

    abilities = Abilities(
        name="tflite-runtime-python",
        arches=tables.load(DELIVERED["tflite-runtime"]).arches,
        instead="litert-python",
    )
    names = ("tflite-runtime",)


def python_of(device: Device) -> str:
    """The interpreter on the device; on this machine the one that runs edgepack, by default."""
    chosen = device.options.python
    return sys.executable if device.link == "local" and chosen == "python3" else chosen


def runtimes_of(device: Device, names: tuple[str, ...]) -> tuple[str, ...]:
    """The runtimes to look for: the device's own choice first, where the runner allows it."""
    chosen = [name for name in names if (device.options.runtime or "").startswith(name)]
    return tuple(chosen) or names
