"""Model and recipe to bytes, by whoever makes the scheme so that the runtime computes it right."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import EdgepackError, ModelError
from edgepack.events import step
from edgepack.export import converter, flatbuffer
from edgepack.export.calibrate import Range
from edgepack.export.check import check_structure, left_float
from edgepack.export.choose import PLAIN, Way, automatic, limits
from edgepack.export.convert import Traced, to_float, trace
from edgepack.export.failure import layer_names
from edgepack.export.learned import Learned, alike, learned, lost, shared, spread
from edgepack.export.observe import Statistics, watch
from edgepack.export.plan import Assigned, assigned
from edgepack.export.quantizer import QuantizerFailed, quantised, siblings_alike
from edgepack.export.suitable import method_of, refuse, require_data
from edgepack.export.weights import prepared
from edgepack.graph.parse import parse
from edgepack.model.data import Data
from edgepack.model.load import Model
from edgepack.runtimes.schemes import Method
from edgepack.runtimes.tables import Runtime
from edgepack.spec.recipe import Recipe

log = logging.getLogger(__name__)
QUANTIZER, CONVERTER = "litert-quantizer", "TFLiteConverter"
CONTROL_FLOW = frozenset({"WHILE", "IF", "CALL", "CALL_ONCE"})


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A model's bytes, who made them, how activations were calibrated, and what to know of it.

    ``producer`` is ``litert-quantizer`` or ``TFLiteConverter``; ``calibrator`` is empty where
    no activation is quantised.
    """

    content: bytes
    producer: str
    calibrator: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one export needs at hand."""

    model: Model
    recipe: Recipe
    data: Data | None
    content: bytes
    plan: tuple[Assigned, ...]
    method: Method
    learned: Learned | None = None


def export(model: Model, recipe: Recipe, runtime: Runtime, calibration: Data | None) -> Exported:
    """``model`` in the recipe's scheme, for ``runtime``: batch 1, signature ``serving_default``.

    The first subgraph's inputs and outputs are in the model's order and bear its names. The
    same arguments give the same bytes. Raises FitError before any work where the runtime would
    refuse or miscompute the scheme, DataError where calibration data is needed and missing or
    empty, ModelError where the model cannot be converted, SpecError for a selection of no layer.
    """
    refuse(recipe, runtime, None)
    with step("convert"):
        content = to_float(model, allow_flex=recipe.allow_flex)
        found = learned(content, model) if model.content is None else None
    content = found.content if found is not None else content
    main = parse(content, model.name).main
    require_data(recipe, calibration, spread(main, found.ranges)[1] if found else None)
    operators = {operator.name for operator in main.operators}
    refuse(recipe, runtime, operators)
    if recipe.scheme == "float32":
        exported = _noted(
            Exported(content=content, producer=_float_producer(model)), _unranged(recipe, found)
        )
    else:
        work = Work(
            model=model,
            recipe=recipe,
            data=calibration if recipe.quantises_activations else None,
            content=content,
            plan=tuple(assigned(main, recipe, layer_names(model))),
            method=method_of(runtime, recipe, operators, learned=found is not None),
            learned=found,
        )
        with step(f"quantise to {recipe.scheme}"):
            exported = _made(work)
    check_structure(exported.content, model, recipe)
    return exported


def _unranged(recipe: Recipe, found: Learned | None) -> str:
    if found is None or recipe.quantises_activations:
        return ""
    return f"the model's fake-quant nodes were taken out: {recipe.scheme} rounds no activation"


def _float_producer(model: Model) -> str:
    return "as given" if model.content is not None else CONVERTER


def _made(work: Work) -> Exported:
    """By the method's producer; by the other one where it fails or leaves floats in int8."""
    if work.recipe.quantises_activations:
        _refuse_loops(work)
    if work.learned is not None:
        made = _noted(_by_learned(work, work.learned), _unranged(work.recipe, work.learned))
        return _noted(made, _still_float(work, made))
    note = ""
    if work.model.content is None and work.method.producer == "converter":
        try:
            return _by_converter(work)
        except ModelError as error:
            log.debug("the converter failed", exc_info=True)
            try:
                made = _by_quantizer(work)
            except ModelError:
                raise error from None
            return _noted(made, f"by litert-quantizer, because {error.message}")
    if work.method.producer == "converter":
        note = "quantised by litert-quantizer: the converter does not take a .tflite file"
    try:
        exported = _by_quantizer(work)
    except QuantizerFailed as error:
        if not _converter_can(work):
            raise
        log.debug("litert-quantizer failed", exc_info=True)
        return _noted(_by_converter(work), f"by the converter, because {error.message}")
    left = _still_float(work, exported)
    if left and _converter_can(work):
        try:
            return _noted(_by_converter(work), f"by the converter, for by litert-quantizer {left}")
        except EdgepackError:
            log.debug("the converter failed too", exc_info=True)
    return _noted(exported, left or note)


def _still_float(work: Work, exported: Exported) -> str:
    """What to note of operators that an integer scheme left in float32."""
    left = left_float(exported.content) if work.recipe.scheme in ("int8", "int16x8") else ()
    return f"{', '.join(left)} stayed float32: no tool has an integer form of it" if left else ""


def _converter_can(work: Work) -> bool:
    return work.model.content is None and work.recipe.scheme in converter.SCHEMES


def _noted(exported: Exported, note: str) -> Exported:
    return replace(exported, notes=(*exported.notes, note)) if note else exported


def _by_converter(work: Work) -> Exported:
    traced: Traced = trace(work.model)
    content = converter.quantised(work.model, traced, work.recipe, work.data)
    notes: tuple[str, ...] = ()
    if work.data is not None and work.recipe.calibrator not in ("auto", "minmax"):
        notes = (f"the converter calibrates by minmax; {work.recipe.calibrator} was asked for",)
    return Exported(
        content=flatbuffer.completed(content, work.model),
        producer=CONVERTER,
        calibrator="minmax" if work.data is not None else "",
        notes=notes,
    )


def _by_quantizer(work: Work) -> Exported:
    if work.data is None:
        return Exported(content=_quantised(work, work.content, None, {}), producer=QUANTIZER)
    foreign = work.model.content is not None
    watched = watch(work.content, work.data, work.model.inputs, foreign=foreign)

    def make(way: Way, known: Statistics, chosen: Mapping[str, Range]) -> bytes:
        means = known.means if way.correct_biases else {}
        content, largest = prepared(work.content, work.plan, means, work.method.per_tensor)
        return _quantised(work, content, chosen, largest)

    used = work.recipe.schemes
    if work.recipe.calibrator == "auto" and "int16x8" not in used:
        try:
            choice = automatic(watched, make)
        except QuantizerFailed:
            raise
        except ModelError as error:  # what it made does not run
            raise QuantizerFailed(
                f"what litert-quantizer makes does not run: {error.message}",
                "choose another scheme, or a calibrator other than auto",
            ) from error
        tried = ", ".join(f"{way} {error:.3g}" for way, error in choice.errors.items())
        return Exported(
            content=choice.content,
            producer=QUANTIZER,
            calibrator=choice.way.calibrator,
            notes=(f"auto chose {choice.way}; mean squared errors on held-out samples: {tried}",),
        )
    calibrator = "minmax" if work.recipe.calibrator == "auto" else work.recipe.calibrator
    way = Way(
        calibrator=calibrator,
        percentile=work.recipe.percentile,
        correct_biases="int4" in used,
    )
    content = make(way, watched.whole, limits(way, watched.whole))
    return Exported(content=content, producer=QUANTIZER, calibrator=calibrator)


def _by_learned(work: Work, found: Learned) -> Exported:
    """By litert-quantizer with exactly the learned ranges; what they leave open is calibrated."""
    main = parse(work.content, work.model.name).main
    if not work.recipe.quantises_activations:
        return Exported(content=_quantised(work, work.content, None, {}), producer=QUANTIZER)
    known, missing = spread(main, found.ranges)
    note = ""
    if missing and work.data is not None:
        seen = watch(work.content, work.data, work.model.inputs, foreign=False).whole
        known = {**limits(PLAIN, seen), **known}
        rest = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        note = f"calibrated, for no fake-quant node covers it: {', '.join(missing[:3])}{rest}"
    per_tensor = work.method.per_tensor | alike(main, found.largest)
    work = replace(work, method=replace(work.method, per_tensor=per_tensor))
    _, largest = prepared(work.content, work.plan, {}, per_tensor)
    own = shared(found.largest, main, per_tensor)
    content = _quantised(work, work.content, known, {**largest, **own})
    made = Exported(content=content, producer=QUANTIZER, calibrator="minmax" if note else "learned")
    return _noted(_noted(made, note), lost(content, found))


def _refuse_loops(work: Work) -> None:
    """Both tools crash, and the process with them, where activations in a loop are quantised."""
    main = parse(work.content, work.model.name).main
    loops = [operator for operator in main.operators if operator.name in CONTROL_FLOW]
    if loops:
        where = main.tensors[loops[0].outputs[0]].name if loops[0].outputs else "no tensor"
        raise ModelError(
            f"{work.recipe.scheme} cannot be made of a loop: {loops[0].name} at '{where}'",
            "give recurrent layers unroll=True, or use dynamic or float16",
        )


def _quantised(
    work: Work,
    source: bytes,
    chosen: Mapping[str, Range] | None,
    largest: Mapping[str, NDArray[np.float64]],
) -> bytes:
    content = quantised(
        source,
        work.plan,
        chosen,
        io=work.recipe.io,
        per_tensor=work.method.per_tensor,
        largest=largest,
    )
    return flatbuffer.completed(siblings_alike(content), work.model)
