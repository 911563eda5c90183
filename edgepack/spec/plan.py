"""A plan: one whole run, models × targets × recipes, then devices, as one TOML."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import MinLen

from edgepack.spec.fields import FORBID, Count, Natural, Text


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One plan. Paths are relative to the plan's own file.

    ``shapes`` gives the sizes that the model leaves open, by input name.
    """

    __pydantic_config__ = FORBID
    model: Text
    targets: Annotated[tuple[Text, ...], MinLen(1)]
    recipes: Annotated[tuple[Text, ...], MinLen(1)]
    devices: tuple[Text, ...] = ()
    train: str | None = None
    calibration: str | None = None
    evaluation: str | None = None
    runner: str | None = None
    seed: Natural = 0
    shapes: dict[str, tuple[Count, ...]] = field(default_factory=dict)
