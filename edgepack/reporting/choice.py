"""Which pack a report recommends, and which of many no other beats."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgepack.records import Measurement, Pack, ReportSection
from edgepack.reporting import units
from edgepack.reporting.cells import cells

TOLERATED_LOSS = 0.01
RULE = (
    "the best balance (product) of file size, median latency and memory among those that fit, "
    "miss no limit and lose at most one point of accuracy"
)


def accuracy(pack: Pack | None) -> tuple[str, float | None]:
    """The metric's name and the artefact's figure on this host, else on nothing."""
    quality = pack.quality if pack is not None else None
    return (quality.metric, quality.host) if quality is not None else ("accuracy", None)


def find(section: ReportSection, recipe: str | None) -> Pack | None:
    """The pack of a recipe, where it was made."""
    made = (p for p in section.packs if p.recipe == recipe and p.status == "ok")
    return next(made, None)


def best(section: ReportSection) -> Pack | None:
    """The best balance beside the baseline of all that miss no limit, fit, and stay accurate.

    Accurate means a loss of at most 0.01 of the metric against the baseline, where both are
    known and the metric is a share of samples or an area under a curve. The balance is the
    product of file size, median latency and memory, of each as far as it is known for all;
    what was timed on the section's main device goes before what was not.
    """
    before = find(section, section.baseline)
    missed = {verdict.recipe for verdict in section.verdicts if verdict.met is False}
    candidates = [
        pack
        for pack in _others(section, before)
        if pack.recipe not in missed and (pack.fit is None or pack.fit.ok) and _kept(before, pack)
    ]
    return _balanced(section, candidates)


def candidate(section: ReportSection) -> Pack | None:
    """The best pack, or, where none keeps every limit, the best balance beside the baseline."""
    others = _others(section, find(section, section.baseline))
    return best(section) or _balanced(section, others)


def frontier(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (cost, gain) that no other beats, by rising cost."""
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    front: list[int] = []
    for index in order:
        if not front or points[index][1] > points[front[-1]][1]:
            front.append(index)
    return front


def _others(section: ReportSection, before: Pack | None) -> list[Pack]:
    made = [pack for pack in section.packs if pack.status == "ok" and pack.artefact is not None]
    return [pack for pack in made if pack is not before]


def _kept(before: Pack | None, pack: Pack) -> bool:
    metric, value = accuracy(pack)
    if metric not in units.SHARES and metric != "auc":
        return True
    lost = units.loss(metric, accuracy(before)[1], value)
    return lost is None or lost <= TOLERATED_LOSS + 1e-9


def _balanced(section: ReportSection, packs: list[Pack]) -> Pack | None:
    timed = _timed(section, packs)
    packs = [pack for pack in packs if id(pack) in timed] or packs
    costs = [
        [float(pack.artefact.size_bytes) if pack.artefact is not None else None for pack in packs],
        [_median(timed.get(id(pack))) for pack in packs],
        [_share(timed.get(id(pack))) for pack in packs],
    ]
    if not _comparable(costs[2]):
        costs[2] = [float(pack.memory.arena_bytes) if pack.memory else None for pack in packs]
    logs = [[math.log(c or 1) for c in kind] for kind in costs if _comparable(kind)]
    order = sorted(range(len(packs)), key=lambda i: sum(kind[i] for kind in logs))
    return packs[order[0]] if order else None


def _comparable(costs: Sequence[float | None]) -> bool:
    return all(units.known(cost) and cost > 0 for cost in costs)


def _timed(section: ReportSection, packs: list[Pack]) -> dict[int, Measurement]:
    """The measurements, by the pack's ``id()``, on the device that counts most: a real one of
    the target before all others.
    """
    chosen = {id(pack) for pack in packs}
    found = [
        (cell.label, id(cell.pack), cell.measurement)
        for cell in cells(section)
        if id(cell.pack) in chosen
        if cell.measurement is not None and cell.measurement.latency_us is not None
    ]
    if not found:
        return {}
    label, _, _ = min(
        found, key=lambda one: (one[2].device.target != section.target, one[2].device.emulated)
    )
    return {pack: m for where, pack, m in found if where == label}


def _median(m: Measurement | None) -> float | None:
    return m.latency_us.p50 if m is not None and m.latency_us is not None else None


def _share(m: Measurement | None) -> float | None:
    return m.memory.model_bytes if m is not None and m.memory is not None else None
