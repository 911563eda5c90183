"""What the fields of all specs share: no unknown keys, and numbers that make sense."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Interval, MinLen

FORBID = {"extra": "forbid", "allow_inf_nan": False}
"""The configuration of every spec: an unknown key, NaN or infinity is an error."""

Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Interval(ge=0, le=1)]
Count = Annotated[int, Ge(1)]
Natural = Annotated[int, Ge(0)]
Text = Annotated[str, MinLen(1)]
