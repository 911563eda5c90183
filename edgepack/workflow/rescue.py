"""rescue: the mixed scheme that meets a limit at the lowest cost in wide MACs and bytes.

The limit is judged on the evaluation set, so that set has chosen the layers too: the record says
so, and a set that nothing has seen gives the honest figure.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from edgepack.errors import SpecError
from edgepack.files import write_bytes, write_text
from edgepack.records import LayerError, Rescue, Trial
from edgepack.reporting.units import LOWER_IS_BETTER
from edgepack.runtimes.schemes import DTYPES
from edgepack.spec.library import find
from edgepack.spec.recipe import PlainScheme, Recipe
from edgepack.workflow.store import StoredPack
from edgepack.workflow.trials import Patient, Search

WIDER: dict[str, tuple[PlainScheme, ...]] = {
    "int4": ("int8", "int16x8", "float32"),
    "int8": ("int16x8", "float32"),
    "int16x8": ("float32",),
    "dynamic": ("float32",),
}
"""Scheme → what its layers may be kept in, the cheapest first."""


def rescue(patient: Patient) -> Rescue:
    """The cheapest mixed scheme found that meets the limit; else the best one, not ``met``.

    Where there is a folder for it, the file and its recipe are written there. Raises SpecError
    where the file has no scheme with a wider one.
    """
    scheme = scheme_of(patient.found.layers)
    search = Search(patient=patient, scheme=scheme)
    untouched = Trial(layers=(), value=search.before, size_bytes=len(patient.content))
    if search.holds(search.before):
        return _record(search, untouched, scheme, met=True)
    if patient.recipe is None:  # another tool's file: ours may do without wider layers
        anew = search.made_of((), scheme)
        if search.holds(anew.value):
            return _written(search, _record(search, anew, scheme, met=True), anew, scheme)
    for wide in WIDER[scheme]:
        if (best := search.cheapest(wide)) is not None:
            return _written(search, _record(search, best, wide, met=True), best, wide)
    best, wide = _best(search, untouched)
    return _record(search, best, wide, met=False)


def _best(search: Search, untouched: Trial) -> tuple[Trial, PlainScheme]:
    """Of what was tried in vain, what came nearest."""
    sign = -1 if search.patient.metric().name in LOWER_IS_BETTER else 1
    found: list[tuple[Trial, PlainScheme]] = [(untouched, search.scheme)]
    found += [(trial, wide) for (wide, _), (trial, _) in search.tried.items()]
    return max(
        (pair for pair in found if pair[0].value is not None),
        key=lambda pair: sign * (pair[0].value or 0.0),
    )


def _record(search: Search, trial: Trial, wide: PlainScheme, *, met: bool) -> Rescue:
    patient = search.patient
    assert trial.value is not None  # only such are chosen
    assert trial.size_bytes is not None
    rows = patient.found.layers
    return Rescue(
        limit=patient.limit.text,
        met=met,
        scheme=wide,
        otherwise=search.scheme,
        layers=trial.layers,
        metric=patient.metric().name,
        reference=search.reference,
        before=search.before,
        after=trial.value,
        size_before_bytes=len(patient.content),
        size_after_bytes=trial.size_bytes,
        wide_macs=sum(row.macs for row in rows if row.layer in trial.layers)
        / max(sum(row.macs for row in rows), 1),
        samples=len(patient.evaluation),
        data=patient.evaluation.digest,
        tried=tuple(made for made, _ in search.tried.values()),
    )


def _written(search: Search, record: Rescue, trial: Trial, wide: PlainScheme) -> Rescue:
    """The file and the recipe that makes it, in the folder that was asked for."""
    out = search.patient.out
    if out is None:
        return record
    recipe = search.recipe(trial.layers, wide)
    file, text = out / f"{recipe.id}.tflite", out / f"{recipe.id}.toml"
    write_bytes(file, search.made(trial, wide))
    write_text(text, toml(recipe))
    return replace(record, file=str(file.resolve()), recipe=str(text.resolve()))


def toml(recipe: Recipe) -> str:
    """A mixed recipe as the file that ``edgepack pack --recipe`` takes."""
    lines = [
        f"description = {_quoted(recipe.description)}",
        f"scheme = {_quoted(recipe.scheme)}",
        f"otherwise = {_quoted(recipe.otherwise)}",
        f"io = {_quoted(recipe.io)}",
        f"calibrator = {_quoted(recipe.calibrator)}",
        f"percentile = {float(recipe.percentile)}",
        f"allow_flex = {str(recipe.allow_flex).lower()}",
    ]
    for selection in recipe.mixed:
        lines += ["", "[[mixed]]", f"layers = {_quoted(selection.layers)}",
                  f"scheme = {_quoted(selection.scheme)}"]  # fmt: skip
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's."""
    return json.dumps(text)


def stored_recipe(pack: StoredPack | None) -> Recipe | None:
    """The recipe that a pack was made by, where it is known here.

    Raises SpecError where its steps changed the model before it was exported.
    """
    if pack is None:
        return None
    try:
        recipe = find(Recipe, pack.pack.recipe)
    except SpecError:
        recipe = None
    if pack.pack.steps or (recipe is not None and recipe.steps):
        raise SpecError(
            f"{pack.pack.recipe} changes the model before it exports it: a mixed recipe of MODEL "
            "would not",
            'add scheme = "mixed" and [[mixed]] selections to that recipe: debug without --rescue '
            "ranks the layers",
        )
    return recipe


def scheme_of(layers: Sequence[LayerError]) -> PlainScheme:
    """The scheme that most layers with weights are in. Raises SpecError without a wider one."""
    forms = Counter((row.dtype, row.weights) for row in layers if row.weights is not None)
    known: dict[tuple[str, str], PlainScheme] = {
        DTYPES["int4"]: "int4",
        DTYPES["int8"]: "int8",
        DTYPES["int16x8"]: "int16x8",
        DTYPES["dynamic"]: "dynamic",
    }
    if any(form == DTYPES["int4"] for form in forms):
        return "int4"
    for form, _ in forms.most_common():
        if form in known:
            return known[form]
    raise SpecError(
        "the file has no quantised layers that could be kept wider", "rescue an int8 or int4 file"
    )
