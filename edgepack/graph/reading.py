"""Reading a flatbuffer that may be hostile: what is read is paid from a budget."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_TABLES = 100_000
"""More tensors, operators or buffers than this no model has; a plan over them would not end."""

LONGEST_NAME = 80


def shown(name: str) -> str:
    """A name from a file as a message may show it: printable, on one line, not endless."""
    clean = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name
    )
    return clean if len(clean) <= LONGEST_NAME else clean[: LONGEST_NAME - 1] + "…"


class Malformed(Exception):
    """What is wrong with the model, without its name; ``parse`` adds that."""


@cache
def schema() -> Any:
    """The generated schema module, loaded on first use (0.2 s)."""
    return importlib.import_module("ai_edge_litert.schema_py_generated")


@cache
def words(enumeration: str) -> dict[int, str]:
    """The names of an enumeration's codes."""
    members = vars(getattr(schema(), enumeration)).items()
    return {code: name for name, code in members if name[0].isupper()}


class Budget:
    """How many items may still be read: a sound file holds no more items than bytes."""

    def __init__(self, size: int) -> None:
        self.left = 4 * size + 1024
        self.tables = MOST_TABLES

    def take(self, items: int, what: str) -> None:
        """Pay for ``items``. Raises Malformed when the file cannot hold so many."""
        self.left -= items
        if self.left < 0:
            raise Malformed(f"claims more {what} than the file can hold")

    def range(self, count: int, what: str) -> range:
        """The indices of ``count`` tables, paid; each takes at least four bytes of the file."""
        self.take(4 * count, what)
        self.tables -= count
        if self.tables < 0:
            raise Malformed(f"has more {what} than edgepack reads ({MOST_TABLES} tables in all)")
        return range(count)

    def text(self, raw: bytes | None) -> str:
        """A string, paid; bytes that are not UTF-8 are shown as escapes."""
        self.take(len(raw or b""), "text")
        return (raw or b"").decode("utf-8", "backslashreplace")

    def vector(self, table: Any, name: str) -> NDArray[Any]:
        """A vector of numbers as a view of the file; empty where it is absent."""
        if getattr(table, f"{name}Length")() == 0:
            return np.empty(0, np.int32)
        view: NDArray[Any] = getattr(table, f"{name}AsNumpy")()
        return view

    def numbers(self, table: Any, name: str, what: str) -> tuple[int, ...]:
        """A vector of integers, copied and paid."""
        view = self.vector(table, name)
        self.take(len(view), what)
        return tuple(view.tolist())

    def indices(
        self, table: Any, name: str, count: int, what: str, *, optional: bool = False
    ) -> tuple[int, ...]:
        """A vector of indices below ``count``; -1 only where ``optional``."""
        found = self.numbers(table, name, what)
        least = -1 if optional else 0
        for index in found:
            if not least <= index < count:
                raise Malformed(f"{what}: no tensor {index} (there are {count})")
        return found
