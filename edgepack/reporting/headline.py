"""Before → after: the baseline, the best candidate, and the figures that changed between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.records import Latency, Measurement, Pack, ReportSection
from edgepack.reporting import units
from edgepack.reporting.cells import Cell
from edgepack.reporting.choice import accuracy, candidate, find


@dataclass(frozen=True, kw_only=True)
class Card:
    """One figure before and after. ``better`` is None where no difference can be told."""

    title: str
    before: str
    after: str
    change: str
    better: bool | None
    detail: str = ""


def cards(section: ReportSection, found: Sequence[Cell]) -> list[Card]:
    """Size, latency, accuracy and memory: the baseline against the best candidate."""
    before, after = find(section, section.baseline), candidate(section)
    if before is None or after is None:
        return []
    pair = _shared(before, after, found, section)
    shown = [
        _size(before, after),
        _latency(pair) if pair is not None else None,
        _accuracy(before, after),
        _memory(before, after, pair),
    ]
    return [card for card in shown if card is not None]


def _size(before: Pack, after: Pack) -> Card | None:
    if before.artefact is None or after.artefact is None:
        return None
    old, new = before.artefact, after.artefact
    return Card(
        title="File size",
        before=units.size(old.size_bytes),
        after=units.size(new.size_bytes),
        change=units.ratio(old.size_bytes, new.size_bytes, "smaller", "larger"),
        better=_better(old.size_bytes, new.size_bytes),
        detail=f"gzip {units.size(old.gzip_bytes)} → {units.size(new.gzip_bytes)}",
    )


def _shared(
    before: Pack, after: Pack, found: Sequence[Cell], section: ReportSection
) -> tuple[Cell, Measurement, Measurement] | None:
    """Both packs timed on one device: the target's own and real ones first."""
    later = {cell.label: cell.measurement for cell in found if cell.pack is after}
    pairs = [
        (cell, old, new)
        for cell in found
        if cell.pack is before
        if (old := cell.measurement) is not None and old.latency_us is not None
        if (new := later.get(cell.label)) is not None and new.latency_us is not None
    ]
    return min(
        pairs,
        key=lambda pair: (pair[1].device.target != section.target, pair[1].device.emulated),
        default=None,
    )


def _latency(pair: tuple[Cell, Measurement, Measurement]) -> Card | None:
    cell, first, second = pair
    old, new = first.latency_us, second.latency_us
    if old is None or new is None or not units.known(old.p50) or not units.known(new.p50):
        return None
    apart = old.ci95[0] > new.ci95[1] or new.ci95[0] > old.ci95[1]
    change = units.ratio(old.p50, new.p50, "faster", "slower")
    return Card(
        title="Median latency",
        before=units.duration(old.p50),
        after=units.duration(new.p50),
        change=change if apart else "no clear difference",
        better=_better(old.p50, new.p50) if apart else None,
        detail=f"{_interval(old)} → {_interval(new)}, 95 %; {cell.label}"
        + (" (emulated)" if first.device.emulated else ""),
    )


def _interval(latency: Latency) -> str:
    return units.spread(*latency.ci95) or "no interval"


def _accuracy(before: Pack, after: Pack) -> Card | None:
    metric, old = accuracy(before)
    other, new = accuracy(after)
    lost = units.loss(metric, old, new) if metric == other else None
    if lost is None or after.quality is None:
        return None
    reference = f"Keras {units.score(metric, after.quality.reference)}; "
    noise = units.chance(new, after.quality.samples) if metric in units.SHARES else None
    spread = f" (± {noise * 100:.1f} points, 95 %)" if noise is not None else ""
    same = abs(lost) <= max(noise or 0.0, 5e-5)
    return Card(
        title=f"Accuracy ({metric})",
        before=units.score(metric, old),
        after=units.score(metric, new),
        change=units.change(metric, lost) if abs(lost) >= 5e-5 else "the same",
        better=None if same else lost < 0,
        detail=f"{reference}{after.quality.samples:,} samples{spread}",
    )


def _memory(
    before: Pack, after: Pack, pair: tuple[Cell, Measurement, Measurement] | None
) -> Card | None:
    if pair is not None:
        cell, *taken = pair
        old, new = (m.memory.model_bytes if m.memory is not None else None for m in taken)
        if old and new:
            return _memory_card(old, new, f"model's share of the peak; {cell.label}")
    if before.memory is not None and after.memory is not None:
        planned = before.memory.arena_bytes, after.memory.arena_bytes
        return _memory_card(*planned, "planned activation arena")
    return None


def _memory_card(old: int, new: int, detail: str) -> Card:
    return Card(
        title="Memory",
        before=units.size(old),
        after=units.size(new),
        change=units.ratio(old, new, "less", "more"),
        better=_better(old, new),
        detail=detail,
    )


def _better(old: float, new: float) -> bool | None:
    return None if old == new else new < old
