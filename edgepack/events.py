"""Progress without printing: the library emits events, whoever subscribes shows them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import count
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Event:
    """One moment of a step. ``total`` is None where the amount of work is not known."""

    step: int
    name: str
    kind: Literal["begin", "advance", "end"]
    done: int = 0
    total: int | None = None
    seconds: float = 0.0
    failed: bool = False


Listener = Callable[[Event], None]
_listeners: ContextVar[tuple[Listener, ...]] = ContextVar("listeners", default=())
_ids = count(1)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send every event emitted inside the block, in this context, to ``listener``."""
    token = _listeners.set((*_listeners.get(), listener))
    try:
        yield
    finally:
        _listeners.reset(token)


@contextmanager
def step(name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Announce a step; the yielded function adds to the amount done."""
    identity, done, started = next(_ids), 0, time.monotonic()

    def emit(kind: Literal["begin", "advance", "end"], failed: bool = False) -> None:
        event = Event(
            step=identity,
            name=name,
            kind=kind,
            done=done,
            total=total,
            seconds=time.monotonic() - started,
            failed=failed,
        )
        for listener in _listeners.get():
            listener(event)

    def advance(amount: int = 1) -> None:
        nonlocal done
        done += amount
        emit("advance")

    emit("begin")
    try:
        yield advance
    except BaseException:
        emit("end", failed=True)
        raise
    emit("end")
