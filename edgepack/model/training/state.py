"""Everything that a training is in the middle of, as arrays: to write down and to go on from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.model.training import checkpoint
from edgepack.model.training.checkpoint import Arrays
from edgepack.model.training.judge import Best
from edgepack.model.training.seams import Guide


@dataclass(kw_only=True, eq=False)
class State:
    """A training between two epochs.

    ``others`` are the variables beside the model's: adapters and the optimizer's. ``held_back``
    begins with the value from before the training. ``words`` are what, beside variables, guides
    and data, determines the training.
    """

    model: Any
    others: Sequence[Any]
    guides: Sequence[Guide]
    best: Best
    words: Sequence[str]
    losses: list[float] = field(default_factory=list)
    held_back: list[float] = field(default_factory=list)

    def fingerprint(self, data: str) -> str:
        """What tells this training from others, from its beginning; ``data`` is the digest."""
        guides = [type(guide).__qualname__ for guide in self.guides]
        return checkpoint.fingerprint([*self.words, *guides, data], self._now())

    def snapshot(self) -> Arrays:
        """What the model and its guides are now."""
        arrays = {f"model.{i}": _values(v) for i, v in enumerate(self.model.variables)}
        for i, guide in enumerate(self.guides):
            arrays |= {f"guide.{i}.{name}": array for name, array in guide.state().items()}
        return arrays

    def _now(self) -> Arrays:
        return self.snapshot() | {f"other.{i}": _values(v) for i, v in enumerate(self.others)}

    def write(self, path: Path) -> None:
        """Write all of it to a file."""
        history = {"losses": np.array(self.losses), "held_back": np.array(self.held_back)}
        best = {f"best.{name}": array for name, array in self.best.state().items()}
        checkpoint.save(path, self._now() | history | best)

    def load(self, path: Path) -> None:
        """Go on from a file, if it is there and whole."""
        found = checkpoint.load(path)
        if found is None:
            return
        self.bring_back(found)
        for i, variable in enumerate(self.others):
            variable.assign(found[f"other.{i}"])
        self.losses = [float(value) for value in found["losses"]]
        self.held_back = [float(value) for value in found["held_back"]]
        self.best.restore(_under(found, "best."))

    def bring_back(self, arrays: Mapping[str, Any]) -> None:
        """Make the model and its guides what they were at a snapshot."""
        for i, variable in enumerate(self.model.variables):
            variable.assign(arrays[f"model.{i}"])
        for i, guide in enumerate(self.guides):
            guide.restore(_under(arrays, f"guide.{i}."))


def _under(arrays: Mapping[str, Any], prefix: str) -> Arrays:
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}


def _values(variable: Any) -> Any:
    return np.array(variable.numpy())
