"""Which inner values of a teacher a student should learn, and where the student has them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.errors import SpecError
from edgepack.passes.layers import KERNELS, kind
from edgepack.passes.network import Call, Network, Value

MOST = 4
PASSING = ("ZeroPadding", "Cropping", "Reshape", "Flatten", "Dropout", "Identity", "FakeQuantRange")
"""Kinds, by their beginning, that only hand on what came before."""

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A layer of the teacher and the student's that should come to say the same.

    Shapes are of one sample, channels last.
    """

    teacher: str
    student: str
    teacher_shape: Shape
    student_shape: Shape


def pairs(teacher: Network, student: Network, pattern: str, *, places: bool) -> list[Pair]:
    """What to learn: ``auto`` or a regular expression over the teacher's whole layer names.

    The student's counterpart has the same name, else the same size at the trunk, else about the
    same depth. ``places`` asks for values that lie at places, as attention needs. Raises SpecError
    where nothing fits.
    """
    theirs = _auto(teacher) if pattern == "auto" else _named(teacher, pattern)
    found = [_pair(teacher, call, student) for call in theirs]
    chosen = {
        pair.teacher: pair
        for pair in found
        if pair is not None and (not places or len(pair.teacher_shape) > 1)
    }
    if not chosen:
        raise SpecError(
            f"distil hidden = '{pattern}': no inner values of the teacher suit the student's",
            "name layers whose outputs are images, signals or vectors in both",
        )
    return list(chosen.values())


def _named(network: Network, pattern: str) -> list[Call]:
    found = [c for c in network.calls if c.inputs and re.fullmatch(pattern, c.name)]
    if not found:
        names = ", ".join(dict.fromkeys(call.name for call in network.calls if call.inputs))
        raise SpecError(
            f"distil hidden = '{pattern}' matches no layer of the teacher",
            f"a whole name must match; there are: {names[:300]}",
        )
    return found


def _auto(network: Network) -> list[Call]:
    """The trunk's last value of each size, at most four, the deepest among them."""
    trunk = cuts(network)
    last = {call.shapes[0][1:-1]: call for call in trunk}
    chosen = sorted(last.values(), key=lambda call: call.index)
    if len(chosen) < 2:
        chosen = trunk
    return spread(chosen, MOST)


def spread(calls: Sequence[Call], most: int) -> list[Call]:
    """At most so many of them, evenly, the last among them."""
    step = max(1.0, len(calls) / most)
    places = [len(calls) - 1 - round(i * step) for i in range(min(most, len(calls)))]
    return [calls[place] for place in sorted({p for p in places if p >= 0})]


def cuts(network: Network) -> list[Call]:
    """Calls that everything flows through: the ends of blocks, never inside a branch.

    Without those that only hand on, and those from the last layer with weights on: the outputs.
    """
    heavy = [call.index for call in network.calls if kind(call.layer) in KERNELS]
    last_use: dict[Value, int] = {}
    for call in network.calls:
        for value in call.inputs:
            last_use[value] = call.index
    open_: set[Value] = {value for value in last_use if not network.producer(value).inputs}
    found = []
    for call in network.calls:
        if not call.inputs:
            continue
        open_ = {value for value in open_ if last_use[value] > call.index}
        if call.output in last_use:
            open_.add(call.output)
        alone = open_ == {call.output}
        if alone and call.index < max(heavy, default=0) and _is_usable(call):
            found.append(call)
    return found


def _is_usable(call: Call) -> bool:
    known = len(call.shapes[0]) > 1 and None not in call.shapes[0][1:]
    return known and not kind(call.layer).startswith(PASSING)


def _pair(teacher: Network, call: Call, student: Network) -> Pair | None:
    shape = call.shapes[0][1:]
    if None in shape or not shape:
        return None
    for ours in student.calls:
        if ours.name == call.name and ours.inputs and ours.shapes[0][1:-1] == shape[:-1]:
            return _paired(call, ours)
    trunk = [ours for ours in cuts(student) if len(ours.shapes[0]) == len(call.shapes[0])]
    if not trunk:
        return None
    same = [ours for ours in trunk if ours.shapes[0][1:-1] == shape[:-1]]
    if same and len(shape) > 1:
        return _paired(call, same[-1])
    depth = call.index / len(teacher.calls)
    nearest = min(trunk, key=lambda ours: abs(ours.index / len(student.calls) - depth))
    return _paired(call, nearest)


def _paired(theirs: Call, ours: Call) -> Pair:
    return Pair(
        teacher=theirs.name,
        student=ours.name,
        teacher_shape=_known(theirs),
        student_shape=_known(ours),
    )


def _known(call: Call) -> Shape:
    return tuple(size or 1 for size in call.shapes[0][1:])
