"""The cores of a burst, and waiting for a device to cool, on a clock that the test turns."""

from __future__ import annotations

from typing import Any

import pytest

from edgepack.errors import MeasureError
from edgepack.runners.conditions import POLL_SECONDS, cooled, cores_of, longest, plan
from edgepack.spec.target import Protocol


class Board:
    """A board that cools by a degree a second of sleep."""

    def __init__(self, degrees: float | None) -> None:
        self.degrees, self.now, self.looks = degrees, 0.0, 0

    def look(self) -> dict[str, Any]:
        self.looks += 1
        zones = {"thermal_zone0 cpu": self.degrees} if self.degrees is not None else {}
        return {"load": [0.0], "temperature_c": zones}

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.degrees is not None:
            self.degrees -= seconds

    def cooled(self, **options: float) -> dict[str, Any]:
        protocol = Protocol(**options)  # type: ignore[arg-type]
        return cooled(self.look, protocol, "board", sleep=self.sleep, clock=lambda: self.now)


def test_a_cool_board_starts_at_once() -> None:
    board = Board(45.0)
    assert "cooled_seconds" not in board.cooled(max_start_c=50)
    assert (board.looks, board.now) == (1, 0.0)
    assert Board(99.0).cooled()["temperature_c"] == {"thermal_zone0 cpu": 99.0}


def test_a_hot_one_is_waited_for() -> None:
    board = Board(62.0)
    state = board.cooled(max_start_c=50)
    assert state["temperature_c"]["thermal_zone0 cpu"] <= 50
    assert state["cooled_seconds"] == board.now == 3 * POLL_SECONDS


def test_but_not_for_ever() -> None:
    board = Board(90.0)
    with pytest.raises(MeasureError, match=r"board is at 83\.0 °C after 7 s of cooling") as caught:
        board.cooled(max_start_c=50, cooldown_seconds=7)
    assert "cooldown_seconds" in caught.value.hint
    assert board.now == 7


def test_a_board_that_tells_no_temperature_is_not_waited_for() -> None:
    assert Board(None).cooled(max_start_c=50)["temperature_c"] == {}


def test_which_cores() -> None:
    speeds = {"core_speeds": {"0": 400, "1": 400, "4": 1024, "10": 1024}}
    assert cores_of(Protocol(), speeds, "d") == []
    assert cores_of(Protocol(cores=(3, 1, 3)), {}, "d") == [1, 3]
    assert cores_of(Protocol(cores="big"), speeds, "d") == [4, 10]
    with pytest.raises(MeasureError, match="d does not say how fast its cores are") as caught:
        cores_of(Protocol(cores="big"), {}, "d")
    assert "cores = [" in caught.value.hint


def test_what_is_asked_of_the_device() -> None:
    protocol = Protocol(threads=3, warmup_max_seconds=2, max_seconds=9)
    asked = plan(protocol, [1])
    assert (asked["threads"], asked["cores"], asked["warmup_max_seconds"]) == (3, [1], 2)
    assert longest(protocol) == 20
