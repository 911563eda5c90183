"""What must hold before an export begins: a runtime that computes the scheme, data where needed."""

from __future__ import annotations

from collections.abc import Collection

from edgepack.errors import DataError, FitError
from edgepack.model.data import Data
from edgepack.runtimes.schemes import Method, method, refusal
from edgepack.runtimes.tables import Runtime
from edgepack.spec.recipe import Recipe


def refuse(recipe: Recipe, runtime: Runtime, operators: Collection[str] | None) -> None:
    """Raises FitError where the runtime refuses or miscomputes one of the recipe's schemes."""
    for scheme in sorted(recipe.schemes):
        if (found := refusal(runtime, scheme, ops=operators)) is not None:
            nearest = f"the nearest scheme that works is {found.nearest}" if found.nearest else ""
            raise FitError(
                f"recipe {recipe.id}: {scheme} does not work on {runtime.name}: {found.why}",
                nearest,
                needs=scheme,
                has=runtime.name,
            )


def method_of(
    runtime: Runtime, recipe: Recipe, operators: Collection[str], *, learned: bool
) -> Method:
    """How the scheme is made; a mixed one by the quantizer, as its most careful part needs.

    Learned ranges are the quantizer's, too. Raises FitError where that is not right.
    """
    if learned and recipe.scheme != "mixed":
        found = method(runtime, recipe.scheme, operators, ("quantizer",))
        if found is None:
            raise FitError(
                f"recipe {recipe.id}: {runtime.name} miscomputes {recipe.scheme} with learned "
                "ranges",
                "leave qat out, or choose another scheme",
                needs=recipe.scheme,
                has=runtime.name,
            )
        return found
    if recipe.scheme != "mixed":
        return method(runtime, recipe.scheme, operators) or Method(producer="quantizer")
    parts = [method(runtime, scheme, operators) for scheme in recipe.schemes]
    alike = frozenset().union(*(part.per_tensor for part in parts if part))
    return Method(producer="quantizer", per_tensor=alike)


def require_data(recipe: Recipe, data: Data | None, missing: list[str] | None) -> None:
    """Raises DataError where ranges must be observed and there is no data.

    ``missing`` are the activations that no learned range covers; None where none is learned.
    """
    if not recipe.quantises_activations or (data is not None and len(data)) or missing == []:
        return
    where = f"; no fake-quant node covers {', '.join(missing[:3])}" if missing else ""
    raise DataError(
        f"recipe {recipe.id}: {recipe.scheme} needs calibration data for activations' ranges"
        + where,
        "give --calibration, about 200 typical samples, or use the recipe dynamic",
    )
