"""A recipe: what is done to a model, and the scheme that it is exported in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from edgepack.spec.fields import FORBID, Text
from edgepack.spec.steps import FAMILIES, Step

Scheme = Literal["float32", "float16", "dynamic", "int8", "int16x8", "int4", "mixed"]
PlainScheme = Literal["float32", "float16", "dynamic", "int8", "int16x8", "int4"]
Calibrator = Literal["auto", "minmax", "moving-average", "percentile", "mse"]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Layers whose name matches the regular expression ``layers`` get ``scheme``."""

    __pydantic_config__ = FORBID
    layers: Text
    scheme: PlainScheme

    def __post_init__(self) -> None:
        try:
            re.compile(self.layers)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(
                f"layers '{self.layers}' is not a regular expression: {error}"
            ) from error


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One recipe; the TOML file's stem is ``id``. ``steps`` are done in order, then the scheme.

    ``io`` is the dtype of inputs and outputs of an int8, int16x8 or int4 model: ``integer``
    or ``float32``. ``mixed`` lists selections, first match wins, the rest gets ``otherwise``.
    """

    __pydantic_config__ = FORBID
    id: str
    scheme: Scheme
    description: str = ""
    folder: str = "."
    steps: tuple[Step, ...] = ()
    io: Literal["integer", "float32"] = "integer"
    calibrator: Calibrator = "auto"
    percentile: Annotated[float, Interval(gt=50, le=100)] = 99.99
    allow_flex: bool = False
    mixed: tuple[Selection, ...] = ()
    otherwise: PlainScheme = "int8"

    def __post_init__(self) -> None:
        if self.scheme == "mixed" and not self.mixed:
            raise ValueError("scheme 'mixed' needs at least one [[mixed]] selection")
        if self.mixed and self.scheme != "mixed":
            raise ValueError(f"[[mixed]] selections need scheme 'mixed', not '{self.scheme}'")

    @property
    def schemes(self) -> tuple[PlainScheme, ...]:
        """The plain schemes that the recipe uses: one, or those that a mixed one selects."""
        if self.scheme != "mixed":
            return (self.scheme,)
        return tuple(dict.fromkeys([*(part.scheme for part in self.mixed), self.otherwise]))

    @property
    def quantises_activations(self) -> bool:
        """Whether activations become integers: then calibration data is used where it is given."""
        return not {"int8", "int16x8", "int4"}.isdisjoint(self.schemes)

    @property
    def needs_calibration(self) -> bool:
        """Whether activations' ranges must be observed; a ``qat`` that trains learns them."""
        learned = self.needs_train and any(step.name == "qat" for step in self.steps)
        return self.quantises_activations and not learned

    @property
    def families(self) -> tuple[str, ...]:
        """The families of techniques that it joins; the scheme's own is ``quantization``."""
        own = [FAMILIES[step.name] for step in self.steps]
        own += ["distillation" for step in self.steps if step.distill is not None]
        return tuple(dict.fromkeys([*own, *(["quantization"] * (self.scheme != "float32"))]))

    @property
    def needs_train(self) -> bool:
        """Whether a step trains."""
        return any(step.train is not None for step in self.steps)

    @property
    def needs_labels(self) -> bool:
        """Whether a step learns from labels."""
        return any(step.needs_labels for step in self.steps)
