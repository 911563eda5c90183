"""Many devices at once: a thread for each machine, one job at a time on it, records in order.

This machine's own turn comes last and alone: it drives the others, and emulated boards run on it.
With one machine only, all happens in the caller's thread. The threads see the caller's context
(edgepack.events), and end with an interrupt as the caller would: by KeyboardInterrupt.
"""

from __future__ import annotations

import contextvars
import ctypes
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from edgepack.bench.hold import holding
from edgepack.errors import SpecError
from edgepack.events import step, within
from edgepack.links import ssh_connect
from edgepack.records import Measurement
from edgepack.spec.device import Device

GRACE_SECONDS = 30.0
"""How long after Ctrl-C devices are waited for: each ends its cell and removes its workspace."""
LOCAL = ("local",)
Machine = tuple[object, ...]
Work = Callable[[Device, Callable[[], Device]], Iterator[Measurement]]
"""All cells of a device, given a function that tells how it can be reached just now."""


def each(devices: Sequence[Device], cells: int, work: Work) -> Iterator[Measurement]:
    """Every record of ``work`` on each device, in the order of devices, then of ``work``.

    ``cells`` is how many records a device gives. A device whose work raises ends; the others go
    on, and the first such error is raised at the end. Ctrl-C yields what is there, then raises
    KeyboardInterrupt.
    """
    lanes = lanes_of(devices)
    if len(lanes) == 1:
        yield from _one_after_another(devices, work)
        return
    gathered = Gathered(count=len(devices))
    fleet = Fleet(devices, cells, work, gathered)
    try:
        for lane in lanes:
            if machine_of(devices[lane[0]]) != LOCAL:
                fleet.start(lane)
        yield from fleet.records()
        for lane in lanes:
            if machine_of(devices[lane[0]]) == LOCAL and not fleet.interrupted:
                fleet.run(lane)
    except KeyboardInterrupt:
        fleet.interrupted = True
    finally:
        fleet.end()
    yield from gathered.rest()
    if fleet.interrupted:
        raise KeyboardInterrupt
    if gathered.errors:
        raise gathered.errors[0]


def lanes_of(devices: Sequence[Device]) -> list[list[int]]:
    """The places of the devices, those of one machine together, in their order."""
    lanes: dict[Machine, list[int]] = {}
    for place, device in enumerate(devices):
        lanes.setdefault(machine_of(device), []).append(place)
    return list(lanes.values())


def machine_of(device: Device) -> Machine:
    """What tells a machine from others: devices that share it must not run at once."""
    if device.board:
        return "board", device.board
    if device.link == "local":
        return LOCAL
    if device.link == "ssh":
        try:
            _, host, port = ssh_connect.split(device.address)
            return "ssh", host.lower(), port or 22
        except SpecError:  # told when the device is reached
            return "ssh", device.address
    return device.link, device.address


def _one_after_another(devices: Sequence[Device], work: Work) -> Iterator[Measurement]:
    with ExitStack() as stack:  # a board that several devices are stays up between them
        for device in devices:
            yield from work(device, stack.enter_context(holding(device)))


@dataclass
class Gathered:
    """What has come in, by the device's place; it gives records out in order."""

    count: int
    errors: list[BaseException] = field(default_factory=list)
    _records: dict[int, list[Measurement]] = field(default_factory=dict)
    _ended: set[int] = field(default_factory=set)
    _at: int = 0

    def add(self, place: int, record: Measurement) -> None:
        """A record of the device at ``place``."""
        self._records.setdefault(place, []).append(record)

    def end(self, place: int, error: BaseException | None = None) -> None:
        """No more records come from the device at ``place``."""
        self._ended.add(place)
        if error is not None:
            self.errors.append(error)

    def ready(self) -> Iterator[Measurement]:
        """Each record whose turn it is: no earlier device can still give one."""
        while self._at < self.count:
            while waiting := self._records.get(self._at):
                yield waiting.pop(0)
            if self._at not in self._ended:
                return
            self._at += 1

    def rest(self) -> Iterator[Measurement]:
        """Every record that was not given out yet."""
        self._ended.update(range(self.count))
        yield from self.ready()


class Fleet:
    """The threads, and what they send: (place, a record, an error, or None at a device's end)."""

    def __init__(
        self, devices: Sequence[Device], cells: int, work: Work, gathered: Gathered
    ) -> None:
        self.interrupted = False
        self._devices, self._cells, self._work, self._gathered = devices, cells, work, gathered
        self._sent: queue.SimpleQueue[tuple[int, Measurement | BaseException | None]]
        self._sent = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def start(self, lane: Sequence[int]) -> None:
        """A thread for the devices of one machine. It never keeps the process from ending."""
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(self.run, lane), daemon=True)
        self._threads.append(thread)
        thread.start()

    def run(self, lane: Sequence[int]) -> None:
        """Measure on the devices of one machine, one after another; never raises."""
        place = lane[0]
        try:
            with ExitStack() as stack:
                for place in lane:
                    self._measure(place, stack)
        except BaseException as error:
            self._sent.put((place, error))

    def _measure(self, place: int, stack: ExitStack) -> None:
        device = self._devices[place]
        try:
            with within(device.id), step(device.id, total=self._cells) as advance:
                for record in self._work(device, stack.enter_context(holding(device))):
                    self._sent.put((place, record))
                    what = " ".join(part for part in (record.model, record.recipe) if part)
                    advance(1, f"{what}: {record.status}")
        except Exception as error:
            self._sent.put((place, error))
        else:
            self._sent.put((place, None))

    def records(self) -> Iterator[Measurement]:
        """What comes, as its turn is, until every thread has ended."""
        while any(thread.is_alive() for thread in self._threads) or not self._sent.empty():
            self._take(0.5)
            yield from self._gathered.ready()

    def _take(self, seconds: float) -> None:
        """Wait for one message, for a while."""
        try:
            place, found = self._sent.get(timeout=seconds)
        except queue.Empty:
            return
        if isinstance(found, Measurement):
            self._gathered.add(place, found)
        elif isinstance(found, KeyboardInterrupt):
            self.interrupted = True
            self._gathered.end(place)
        else:
            self._gathered.end(place, found)

    def end(self) -> None:
        """Interrupt the threads that still run, and take what they send until they have ended."""
        for thread in self._threads:
            if thread.is_alive() and thread.ident is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt)
                )
        deadline = time.monotonic() + GRACE_SECONDS
        while any(t.is_alive() for t in self._threads) and time.monotonic() < deadline:
            self._take(0.1)
        while not self._sent.empty():
            self._take(0.1)
