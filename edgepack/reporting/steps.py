"""What each step of a recipe brought and cost: one table a recipe, the original model on top."""

from __future__ import annotations

from dataclasses import dataclass

from edgepack.records import Pack, ReportSection, StepRecord
from edgepack.reporting import units
from edgepack.reporting.tables import Column, Table, Value, filled

COLUMNS = (
    Column(title="Step", numeric=False),
    Column(title="File", explains="Size of the model file: float until the export"),
    Column(title="gzip", explains="Size after gzip -9: what a download costs"),
    Column(title="Parameters"),
    Column(title="MACs", explains="Multiply-accumulates of one inference"),
    Column(title="Arena", explains="Planned activation memory of one inference"),
    Column(title="Accuracy", explains="Of the Keras model after the step; of the file at the end"),
    Column(
        title="Host latency", explains="Median of a short run on one thread where it was packed"
    ),
    Column(title="Time", explains="How long the step took"),
    Column(title="Layers", explains="What it changed and left as it was", numeric=False),
)


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """A recipe's steps: the table, and each step's words, folded away."""

    recipe: str
    table: Table
    steps: tuple[StepRecord, ...]


def attributions(section: ReportSection) -> list[Attribution]:
    """Of every recipe with steps, in the order of the packs."""
    return [
        Attribution(recipe=pack.recipe, table=_table(pack), steps=pack.steps)
        for pack in section.packs
        if pack.steps
    ]


def _table(pack: Pack) -> Table:
    metric = pack.quality.metric if pack.quality is not None else ""
    first = pack.steps[0]
    original = StepRecord(name="original model", after=first.before)
    rows = [_row(step, metric) for step in (original, *pack.steps)]
    return filled(f"{pack.recipe}, step by step", COLUMNS, rows)


def _row(step: StepRecord, metric: str) -> tuple[Value, ...]:
    """A step's figures afterwards, each with what the step changed of it."""
    before, after = step.before, step.after

    def figure(name: str, text: str, change: str, exact: str = "") -> Value:
        value = after.get(name)
        same = before.get(name) == value
        return Value(
            text=text, order=value, detail="" if same else change, exact=exact if value else ""
        )

    def size(name: str) -> Value:
        value = after.get(name)
        change = units.ratio(before.get(name), value, "smaller", "larger")
        return figure(name, units.size(value), change, f"{value or 0:,.0f} bytes")

    def count(name: str) -> Value:
        value = after.get(name)
        change = units.ratio(before.get(name), value, "fewer", "more")
        return figure(name, units.quantity(value), change, f"{value or 0:,.0f}")

    lost = units.loss(metric, before.get("quality"), after.get("quality"))
    speed = units.ratio(
        before.get("latency_host_us"), after.get("latency_host_us"), "faster", "slower"
    )
    return (
        Value(text=step.name, order=step.name),
        size("size_bytes"),
        size("gzip_bytes"),
        count("params"),
        count("macs"),
        size("arena_bytes"),
        figure(
            "quality",
            units.score(metric, after.get("quality")),
            units.change(metric, lost) if units.known(lost) else "",
        ),
        figure("latency_host_us", units.duration(after.get("latency_host_us")), speed),
        _time(step),
        _layers(step),
    )


def _time(step: StepRecord) -> Value:
    if not step.seconds:
        return Value(text=units.NOTHING)
    return Value(text=units.duration(step.seconds * 1e6), order=step.seconds)


def _layers(step: StepRecord) -> Value:
    changed, skipped = len(step.changed), len(step.skipped)
    words = [f"{changed} changed"] * bool(changed) + [f"{skipped} skipped"] * bool(skipped)
    return Value(text=", ".join(words) or units.NOTHING)
