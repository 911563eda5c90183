"""Many devices at once: order, machines that are one, failures beside others, and Ctrl-C."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from edgepack.errors import SpecError
from edgepack.events import Event, listening, step
from edgepack.measuring.take import blank
from edgepack.records import Measurement
from edgepack.spec.device import Device
from edgepack.workflow.fleet import each, lanes_of


def device(name: str, address: str = "", link: str = "ssh", board: str = "") -> Device:
    where = "" if link == "local" or board else address or name
    return Device(id=name, target="rpi4-64", link=link, address=where, board=board)


def record(here: Device, number: int, status: str = "ok") -> Measurement:
    made = blank(here, artefact_sha256=f"{number:064}")
    return type(made)(**{**made.__dict__, "status": status, "model": str(number)})


def names(found: list[Measurement]) -> list[tuple[str, str]]:
    return [(one.device.id, one.model) for one in found]


def collect(found: list[Measurement], cells: Iterator[Measurement]) -> None:
    for one in cells:
        found.append(one)


def test_devices_of_one_machine_share_a_lane():
    devices = [
        device("a", "pi@board"),
        device("b", "other@BOARD:22"),
        device("c", "pi@board:2222"),
        device("here", link="local"),
        device("d", board="aarch64"),
        device("there", link="local"),
        device("e", link="adb", board="aarch64"),
        device("f", "R5", link="adb"),
        device("g", "R6", link="adb"),
        device("h", "pi@"),
    ]
    assert lanes_of(devices) == [[0, 1], [2], [3, 5], [4, 6], [7], [8], [9]]


def test_records_come_in_the_devices_order_whoever_is_first():
    slow, quick, here = device("slow"), device("quick"), device("here", link="local")
    quick_is_done, running = threading.Event(), []

    def work(one: Device, reached: Callable[[], Device]) -> Iterator[Measurement]:
        assert reached() == one
        running.append(one.id)
        if one is slow:
            assert quick_is_done.wait(20)
        for number in range(3):
            yield record(one, number)
        if one is quick:
            quick_is_done.set()

    found = list(each([slow, here, quick], 3, work))
    assert names(found) == [(n, str(i)) for n in ("slow", "here", "quick") for i in range(3)]
    assert running[-1] == "here"  # alone, after all others


def test_one_machine_never_runs_two_jobs_at_once():
    devices = [device(f"d{place}", f"pi@board{place % 2}") for place in range(6)]
    busy: dict[str, threading.Lock] = {"pi@board0": threading.Lock(), "pi@board1": threading.Lock()}

    def work(one: Device, reached: Callable[[], Device]) -> Iterator[Measurement]:
        assert busy[one.address].acquire(blocking=False)
        time.sleep(0.02)
        yield record(one, 0)
        busy[one.address].release()

    assert [one.device.id for one in each(devices, 1, work)] == [one.id for one in devices]


def test_the_others_go_on_where_one_fails():
    bad, good = device("bad"), device("good")

    def work(one: Device, reached: Callable[[], Device]) -> Iterator[Measurement]:
        yield record(one, 0)
        if one is bad:
            raise SpecError("the disk is full")
        for number in (1, 2):
            time.sleep(0.05)
            yield record(one, number)

    found: list[Measurement] = []
    with pytest.raises(SpecError, match="the disk is full"):
        collect(found, each([bad, good], 3, work))
    assert names(found) == [("bad", "0"), ("good", "0"), ("good", "1"), ("good", "2")]


def test_the_listener_hears_each_device_and_its_steps_tell_where():
    heard: list[Event] = []

    def work(one: Device, reached: Callable[[], Device]) -> Iterator[Measurement]:
        with step("accuracy"):
            yield record(one, 7)

    with listening(heard.append):
        assert len(list(each([device("a"), device("b")], 1, work))) == 2
    ends = {event.name: event for event in heard if event.kind == "end"}
    assert set(ends) == {"a", "b", "a: accuracy", "b: accuracy"}
    assert (ends["a"].done, ends["a"].total, ends["a"].detail) == (1, 1, "7: ok")


def test_an_interrupt_reaches_every_device_and_keeps_what_they_say():
    devices, ended = [device(name) for name in "abc"], []

    def work(one: Device, reached: Callable[[], Device]) -> Iterator[Measurement]:
        yield record(one, 0)
        try:
            while True:
                time.sleep(0.01)
        except KeyboardInterrupt:
            ended.append(one.id)  # where a workspace is removed
            yield record(one, 1, "interrupted")
            raise

    found: list[Measurement] = []
    timer = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
    # A timer's signal is handled by the main thread, as Ctrl-C is.
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        collect(found, each(devices, 2, work))
    timer.join()
    assert sorted(ended) == ["a", "b", "c"]
    assert names(found) == [(name, number) for name in "abc" for number in "01"]
    assert {one.status for one in found} == {"ok", "interrupted"}


def test_who_stops_listening_stops_the_devices():
    devices, ended = [device(name) for name in "ab"], []

    def work(one: Device, reached: Callable[[], Device]) -> Iterator[Measurement]:
        try:
            for number in range(10_000):
                time.sleep(0.01)
                yield record(one, number)
        except KeyboardInterrupt:
            ended.append(one.id)
            raise

    cells = each(devices, 10_000, work)
    next(cells)
    cells.close()
    assert sorted(ended) == ["a", "b"]
