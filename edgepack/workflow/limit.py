"""A limit on quality as people write it: ``accuracy=0.5pt``, ``accuracy=0.87``, ``mse=0.02``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from edgepack.errors import SpecError
from edgepack.reporting.units import LOWER_IS_BETTER

FORM = re.compile(r"(?P<name>[^=]+)=(?P<number>[0-9.]+(?:e-?[0-9]+)?)(?P<unit>pt|%|)")
HINT = (
    "write accuracy=0.5pt (at most half a point below the model), accuracy=0.87, accuracy=87%, "
    "or mse=0.02 (at most)"
)


@dataclass(frozen=True, kw_only=True)
class Limit:
    """How good a file must be. ``drop``: at most so far below the model, as a fraction."""

    text: str
    name: str
    kind: Literal["drop", "value"]
    amount: float

    def check(self, metric: str) -> None:
        """Raises SpecError where the limit does not suit the metric that judges."""
        error = metric in LOWER_IS_BETTER
        if self.name not in ("accuracy", metric) or (error and self.name == "accuracy"):
            raise SpecError(
                f"--limit {self.text}: the evaluation set is judged by {metric}",
                f"write {metric}=…, or set metric in the data description",
            )
        if error and self.kind == "drop":
            raise SpecError(f"--limit {self.text}: {metric} has no points", HINT)

    def holds(self, metric: str, reference: float, value: float) -> bool:
        """Whether ``value`` is good enough beside the model's own ``reference``."""
        slack = 1e-9
        if self.kind == "drop":
            return value >= reference - self.amount - slack
        if metric in LOWER_IS_BETTER:
            return value <= self.amount + slack
        return value >= self.amount - slack


def limit(text: str) -> Limit:
    """The limit that ``text`` says. Raises SpecError."""
    found = FORM.fullmatch(text.replace(" ", ""))
    try:
        number = float(found["number"]) if found else math.nan
    except ValueError:
        number = math.nan
    if found is None or not math.isfinite(number):
        raise SpecError(f"--limit {text}: not a limit", HINT)
    name, unit = found["name"], found["unit"]
    amount = number / 100 if unit else number
    if name in LOWER_IS_BETTER and unit:
        raise SpecError(f"--limit {text}: {name} is an error, given as a plain number", HINT)
    if name == "accuracy" and amount > 1:
        raise SpecError(f"--limit {text}: an accuracy is at most 1, or 100 %", HINT)
    return Limit(text=text, name=name, kind="drop" if unit == "pt" else "value", amount=amount)
