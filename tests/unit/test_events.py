"""Steps tell whoever listens, in the context that listens, and nobody else."""

from __future__ import annotations

import threading

import pytest

from edgepack.events import Event, listening, step


def told(events: list[Event]) -> list[tuple[str, str, int, int | None, bool]]:
    """What matters of events, without identities and times."""
    return [(e.name, e.kind, e.done, e.total, e.failed) for e in events]


def test_a_step_begins_advances_and_ends():
    events: list[Event] = []
    with listening(events.append), step("convert", total=3) as advance:
        advance(1)
        advance(2)
    assert told(events) == [
        ("convert", "begin", 0, 3, False),
        ("convert", "advance", 1, 3, False),
        ("convert", "advance", 3, 3, False),
        ("convert", "end", 3, 3, False),
    ]
    assert len({e.step for e in events}) == 1
    assert [e.seconds for e in events] == sorted(e.seconds for e in events)


def test_advance_counts_one_by_default_and_the_total_may_be_unknown():
    events: list[Event] = []
    with listening(events.append), step("read") as advance:
        advance()
    assert told(events)[1] == ("read", "advance", 1, None, False)


def test_nested_steps_have_identities_of_their_own():
    events: list[Event] = []
    with listening(events.append), step("outer"), step("inner"):
        pass
    outer, inner = events[0].step, events[1].step
    assert outer != inner
    assert [e.step for e in events] == [outer, inner, inner, outer]


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()])
def test_a_failing_step_ends_as_failed_and_the_error_goes_on(error):
    events: list[Event] = []
    with listening(events.append), pytest.raises(type(error)), step("convert"):
        raise error
    assert told(events)[-1] == ("convert", "end", 0, None, True)


def test_every_listener_hears_until_its_block_ends():
    first: list[Event] = []
    second: list[Event] = []
    with listening(first.append):
        with listening(second.append), step("both"):
            pass
        with step("first only"):
            pass
    with step("nobody"):
        pass
    assert [e.name for e in first] == ["both", "both", "first only", "first only"]
    assert [e.name for e in second] == ["both", "both"]


def test_a_listener_does_not_hear_another_thread():
    events: list[Event] = []

    def elsewhere() -> None:
        with step("elsewhere"):
            pass

    with listening(events.append):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert events == []


def test_a_listener_is_forgotten_even_after_an_error():
    events: list[Event] = []
    with pytest.raises(ValueError, match="bad"), listening(events.append):
        raise ValueError("bad")
    with step("later"):
        pass
    assert events == []
