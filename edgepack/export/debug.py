"""Where an exported model departs from its float model: each layer's error, piled up and alone.

The error that has *piled up* at a layer is what the whole file computes against what the float
model computes. A layer's *local* error is that of its operator alone, given the float model's own
values as its inputs' types hold them. Its three sources are told apart by running the float
operator on the same rounded inputs, and by rounding the float model's own output:

    from the input     float operator on rounded inputs - float output
    from the output    rounded float output - float output
    from the weights   the rest: rounded weights and integer arithmetic

Shares are of the sum of squares. Everything is run in child processes (``dissect``).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import DataError, ModelError
from edgepack.events import step
from edgepack.export import dissect
from edgepack.export.choose import NEGLIGIBLE
from edgepack.export.dissect import Slot
from edgepack.export.observe import samples as singles
from edgepack.export.rows import Evidence, rows
from edgepack.export.suggest import overall, strangers
from edgepack.export.twins import Place, Two, side_by_side
from edgepack.graph.facts import tensor_spec
from edgepack.graph.types import Subgraph
from edgepack.graph.values import carrier, dequantise, quantise
from edgepack.model.data import Data
from edgepack.model.load import Model
from edgepack.records import Debug
from edgepack.runtimes import child, tables
from edgepack.runtimes.schemes import refusal

Arrays = list[NDArray[Any]]
CHUNK_BYTES = 64 << 20
MOST_BYTES = 512 << 20


def debug(
    model: Model, content: bytes, name: str, data: Data, *, runtime: str, most: int = 64
) -> Debug:
    """The errors of the file ``content`` against ``model``, over up to ``most`` samples.

    ``name`` names the file; ``sha256`` of the record is left empty. Raises ModelError where the
    file is damaged, crashes its runtime, or was not made from the model; DataError where the data
    does not suit.
    """
    two = side_by_side(model, content, name, runtime)
    operators = {operator.name for operator in two.reference.operators}
    wide = "float32" if refusal(tables.load(runtime), "int16x8", ops=operators) else "int16x8"
    evidence = Evidence(places=two.places)
    count = 0
    with step("run both models layer by layer") as advance:
        for inputs in _chunks(two, data, most):
            _gather(two, inputs, evidence)
            count += len(inputs[0])
            advance(1)
    found = rows(evidence, two.reference, two.exported, wide)
    notes = strangers(found)
    if notes:  # what would help the model's own file says nothing of another's
        found = [replace(row, suggestion=None) for row in found]
    ranked = sorted(
        (row for row in found if row.local_sqnr_db is not None or row.sqnr_db is not None),
        key=lambda row: row.local_sqnr_db if row.local_sqnr_db is not None else 999.0,
    )
    return Debug(
        model=model.name,
        file=name,
        sha256="",
        runtime=runtime,
        samples=count,
        matched=len(two.places),
        unmatched=two.unmatched,
        output=evidence.output.record(None),
        layers=tuple(found),
        ranked=tuple(dict.fromkeys(row.layer for row in ranked)),
        suggestions=() if notes else overall(ranked, wide),
        notes=notes,
    )


def _chunks(two: Two, data: Data, most: int) -> Iterator[Arrays]:
    """Samples spread over the data, as many at once as memory takes: each input (N, *shape)."""
    alive = {i for o in two.reference.operators for i in (*o.inputs, *o.outputs) if i >= 0}
    each = 3 * sum(
        4 * two.reference.tensors[index].elements
        for index in alive
        if not two.reference.tensors[index].constant
    )
    if not len(data):
        raise DataError("the calibration set is empty", "give at least one sample, better 64")
    count = max(1, min(most, len(data), MOST_BYTES // max(each, 1)))
    at_once = max(1, min(count, CHUNK_BYTES // max(each, 1)))
    chosen = np.unique(np.linspace(0, len(data) - 1, count).astype(int))
    waiting: list[Arrays] = []
    for sample in singles(data.select(chosen), two.model.inputs):
        waiting.append([value.copy() for value in sample])
        if len(waiting) == at_once:
            yield [np.stack(column) for column in zip(*waiting, strict=True)]
            waiting = []
    if waiting:
        yield [np.stack(column) for column in zip(*waiting, strict=True)]


def _gather(two: Two, inputs: Arrays, evidence: Evidence) -> None:
    """Run both files on a chunk of samples and add up what is seen."""
    exported, reference = two.exported, two.reference
    real = _reference(two, inputs)
    piled = _computed(two, inputs)
    for place in two.places:
        wanted = real[place.twin.outputs[0]]
        found = _heard(two, place, piled[place.operator.outputs[0]], wanted)
        evidence.piled[place.index].add(found, _heard(two, place, wanted, wanted))
        evidence.spread(place.twin.outputs[0]).add(wanted)
    for ours, theirs in zip(exported.outputs, reference.outputs, strict=True):
        if theirs in real and ours in piled:
            evidence.output.add(piled[ours], real[theirs])
    for index in {slot.tensor for slot in dissect.slots(reference, [p.twin for p in two.twins])}:
        if index in reference.inputs and reference.tensors[index].dtype == "float32":
            evidence.spread(index).add(real[index])
    if not two.lone:
        return
    fed = [
        (slot, quantise(real[two.same[slot.tensor]], tensor_spec(exported.tensors[slot.tensor])))
        for slot in dissect.slots(exported, [place.operator for place in two.lone])
    ]
    alone = _alone(two.content, exported, two.lone, fed, two.runtime, twin=False)
    for place, found in zip(two.lone, alone, strict=True):
        wanted = real[place.twin.outputs[0]]
        evidence.alone[place.index].add(
            _heard(two, place, found, wanted), _heard(two, place, wanted, wanted)
        )
    if two.twins:
        _tell_apart(two, real, fed, evidence)


def _tell_apart(
    two: Two, real: Mapping[int, NDArray[Any]], fed: Sequence[tuple[Slot, Any]], evidence: Evidence
) -> None:
    """Add what of each local error the rounding of inputs and of outputs makes."""
    exported, reference = two.exported, two.reference
    rounded: dict[int, list[Any]] = {}
    for slot, stored in fed:
        spec = tensor_spec(exported.tensors[slot.tensor])
        rounded.setdefault(slot.operator, []).append(dequantise(stored, spec))
    theirs: list[tuple[Slot, Any]] = []
    for place in two.twins:
        own = dissect.slots(reference, [place.twin])
        for slot, values in zip(own, rounded[place.index], strict=True):
            kind = carrier(reference.tensors[slot.tensor].dtype)
            shape = (len(values), *reference.tensors[slot.tensor].shape)
            theirs.append((slot, values.reshape(shape).astype(kind)))
    answers = _alone(two.floats, reference, two.twins, theirs, child.HOST, twin=True)
    for place, answer in zip(two.twins, answers, strict=True):
        wanted = real[place.twin.outputs[0]]
        spec = tensor_spec(exported.tensors[place.operator.outputs[0]])
        held, heard = dequantise(quantise(wanted, spec), spec), _heard(two, place, wanted, wanted)
        evidence.from_input[place.index].add(_heard(two, place, answer, wanted), heard)
        evidence.from_output[place.index].add(_heard(two, place, held, wanted), heard)


def _heard(two: Two, place: Place, values: NDArray[Any], wanted: NDArray[Any]) -> NDArray[Any]:
    """``values``, but of logits only what their softmax notices beside the winner in ``wanted``.

    Exports cut off the rest on purpose (``choose.sharpened``).
    """
    if place.twin.outputs[0] not in two.logits:
        return values
    floor = wanted.max(axis=-1, keepdims=True) - NEGLIGIBLE
    heard: NDArray[Any] = np.maximum(values.reshape(wanted.shape), floor)
    return heard


def _reference(two: Two, inputs: Arrays) -> dict[int, NDArray[Any]]:
    """The float model's tensors that have a like, and its inputs: each (N, *shape)."""
    fed = dict(zip(two.reference.inputs, inputs, strict=True))
    wanted = sorted(set(two.same.values()) - set(fed))
    stored = _run(dissect.exposed(two.floats, wanted), inputs, child.HOST, two.model.name)
    return fed | dict(zip(wanted, stored, strict=True))


def _computed(two: Two, inputs: Arrays) -> dict[int, NDArray[Any]]:
    """The exported file's tensors in real units: those of its layers and its outputs."""
    main = two.exported
    specs = [tensor_spec(main.tensors[index]) for index in main.inputs]
    wanted = {place.operator.outputs[0] for place in two.places} | set(main.outputs)
    chosen = sorted(wanted - set(main.inputs))
    stored = [quantise(values, spec) for values, spec in zip(inputs, specs, strict=True)]
    found = _run(dissect.exposed(two.content, chosen), stored, two.runtime, two.model.name)
    return {
        index: dequantise(values, tensor_spec(main.tensors[index]))
        for index, values in zip(chosen, found, strict=True)
    }


def _alone(
    content: bytes,
    main: Subgraph,
    places: Sequence[Place],
    fed: Sequence[tuple[Slot, Any]],
    runtime: str,
    *,
    twin: bool,
) -> Arrays:
    """What each operator (or its twin) answers alone, in real units: each (N, *shape)."""
    operators = [place.twin if twin else place.operator for place in places]
    shaped = [
        values.reshape((len(values), *main.tensors[slot.tensor].shape)) for slot, values in fed
    ]
    rewritten = dissect.apart(content, [operator.index for operator in operators])
    found = _run(rewritten, shaped, runtime, "its operators, each alone")
    return [
        dequantise(values, tensor_spec(main.tensors[operator.outputs[0]]))
        for operator, values in zip(operators, found, strict=True)
    ]


def _run(content: bytes, inputs: Arrays, runtime: str, name: str) -> Arrays:
    with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(content)
        try:
            return child.infer(path, inputs, runtime)
        except ModelError as error:
            reason = error.message.removeprefix(f"{path}: ")
            raise ModelError(f"{name}: {reason}", error.hint) from error
