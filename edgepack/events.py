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
    """One moment of a step. ``total`` is None where the amount of work is not known.

    ``detail`` is a few words on how it goes, such as ``loss 0.31, top1 0.93``.
    """

    step: int
    name: str
    kind: Literal["begin", "advance", "end"]
    done: int = 0
    total: int | None = None
    seconds: float = 0.0
    detail: str = ""
    failed: bool = False


Listener = Callable[[Event], None]
Advance = Callable[..., None]
"""``advance(amount=1, detail=None)``: so much more is done; words stay until others come."""
_listeners: ContextVar[tuple[Listener, ...]] = ContextVar("listeners", default=())
_place: ContextVar[str] = ContextVar("place", default="")
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
def within(place: str) -> Iterator[None]:
    """Steps inside the block, in this context, tell ``place`` where their own name does not."""
    token = _place.set(place)
    try:
        yield
    finally:
        _place.reset(token)


@contextmanager
def step(name: str, total: int | None = None) -> Iterator[Advance]:
    """Announce a step; the yielded function adds to the amount done and says how it goes."""
    identity, done, words, started = next(_ids), 0, "", time.monotonic()
    if (place := _place.get()) and place not in name.split():
        name = f"{place}: {name}"

    def emit(kind: Literal["begin", "advance", "end"], failed: bool = False) -> None:
        event = Event(
            step=identity,
            name=name,
            kind=kind,
            done=done,
            total=total,
            seconds=time.monotonic() - started,
            detail=words,
            failed=failed,
        )
        for listener in _listeners.get():
            listener(event)

    def advance(amount: int = 1, detail: str | None = None) -> None:
        nonlocal done, words
        done += amount
        words = words if detail is None else detail
        emit("advance")

    emit("begin")
    try:
        yield advance
    except BaseException:
        emit("end", failed=True)
        raise
    emit("end")
