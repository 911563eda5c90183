"""Verdicts laid out: counts, a matrix recipe × limit, and an overview of all sections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.records import Report, ReportSection, Verdict
from edgepack.reporting import units
from edgepack.reporting.cells import cells
from edgepack.reporting.choice import candidate
from edgepack.reporting.headline import cards

TITLES = {
    "max_latency_ms": "Latency p90",
    "max_ram_kib": "Memory",
    "max_flash_kib": "File size",
    "min_accuracy": "Accuracy",
    "max_accuracy_drop": "Accuracy drop",
}
QUIET = frozenset({"ok", "not measured", "unchecked"})


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many limits are met, missed, or could not be judged, and how many cells failed."""

    met: int
    missed: int
    open: int
    failed: int = 0


@dataclass(frozen=True, kw_only=True)
class Line:
    """One verdict as it stands in the matrix."""

    met: bool | None
    found: str
    device: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """Columns are limits (title, allowed); each row is a recipe and its lines by limit."""

    limits: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, tuple[tuple[Line, ...], ...]], ...]


@dataclass(frozen=True, kw_only=True)
class Glance:
    """One section in the overview."""

    title: str
    best: str
    changes: dict[str, str]
    counts: Counts


def counts(verdicts: Sequence[Verdict], failed: int = 0) -> Counts:
    """Verdicts by outcome."""
    return Counts(
        met=sum(v.met is True for v in verdicts),
        missed=sum(v.met is False for v in verdicts),
        open=sum(v.met is None for v in verdicts),
        failed=failed,
    )


def totals(report: Report) -> Counts:
    """The counts of a whole report."""
    every = [verdict for section in report.sections for verdict in section.verdicts]
    return counts(every, sum(failures(section) for section in report.sections))


def failures(section: ReportSection) -> int:
    """How many cells of a section went wrong."""
    return sum(cell.status not in QUIET for cell in cells(section))


def matrix(section: ReportSection) -> Matrix | None:
    """Every verdict of a section, or None where there are no limits."""
    if not section.verdicts:
        return None
    metric = next((p.quality.metric for p in section.packs if p.quality), "accuracy")
    limits = {verdict.limit: verdict.allowed for verdict in section.verdicts}
    recipes = dict.fromkeys(verdict.recipe for verdict in section.verdicts)
    lines: dict[tuple[str, str], list[Line]] = {}
    for v in section.verdicts:
        lines.setdefault((v.recipe, v.limit), []).append(
            Line(
                met=v.met,
                found=amount(v.limit, metric, v.found) if v.met is not None else _why(v),
                device=v.device or "",
                sentence=v.sentence,
            )
        )
    return Matrix(
        limits=tuple(
            (
                TITLES.get(limit, limit),
                ("≥ " if limit.startswith("min") else "≤ ") + amount(limit, metric, allowed),
            )
            for limit, allowed in limits.items()
        ),
        rows=tuple(
            (recipe, tuple(tuple(lines.get((recipe, limit), ())) for limit in limits))
            for recipe in recipes
        ),
    )


def _why(verdict: Verdict) -> str:
    """What the sentence of an open verdict says."""
    return "not judged" if "not judged" in verdict.sentence else "not measured"


def amount(limit: str, metric: str, value: float | None) -> str:
    """A limit's figure with its unit."""
    if not units.known(value):
        return "not measured"
    if limit.endswith("_ms"):
        return f"{units.digits(value)} ms"
    if limit.endswith("_kib"):
        return units.size(value * 1024)
    if limit == "max_accuracy_drop" and metric in units.SHARES:
        return units.points(value)
    return (
        f"{units.digits(value * 100, 4)} %"
        if metric in units.SHARES
        else units.score(metric, value)
    )


def overview(report: Report) -> list[Glance]:
    """Every section's best candidate, what it changes, and its verdicts."""
    glances = []
    for section in report.sections:
        chosen = candidate(section)
        glances.append(
            Glance(
                title=f"{section.model} → {section.target_name}",
                best=chosen.recipe if chosen is not None else units.NOTHING,
                changes={c.title: c.change for c in cards(section, cells(section))},
                counts=counts(section.verdicts, failures(section)),
            )
        )
    return glances
