"""Which layers a step may touch: by name, by type, first and last."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from edgepack.errors import SpecError
from edgepack.passes.layers import KERNELS, kind
from edgepack.passes.network import read
from edgepack.spec.steps import Step


def selector(model: Any, step: Step) -> Callable[[Any], bool]:
    """Whether the step may touch a layer of ``model``, by its name and type.

    Raises SpecError where ``layers`` or ``types`` select no layer at all.
    """
    calls = read(model).calls
    heavy = [call.name for call in calls if kind(call.layer) in KERNELS]
    ends = {"@first": heavy[:1], "@last": heavy[-1:]}

    def matches(pattern: str | None, name: str) -> bool:
        if pattern is None:
            return False
        tags = [name, *(tag for tag, names in ends.items() if name in names)]
        return any(re.fullmatch(pattern, tag) for tag in tags)

    def selected(layer: Any) -> bool:
        name = layer.name
        return (
            (step.layers is None or matches(step.layers, name))
            and (not step.types or kind(layer) in step.types)
            and not matches(step.skip, name)
        )

    if (step.layers or step.types) and not any(selected(call.layer) for call in calls):
        known = ", ".join(dict.fromkeys(call.name for call in calls))
        raise SpecError(
            f"step {step.name}: its selection matches no layer",
            f"a whole name must match; there are: {known[:300]}",
        )
    return selected
