"""The tables of the page, as plain values: what a cell says, sorts by and is marked with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.records import Measurement, Pack, ReportSection
from edgepack.reporting import units
from edgepack.reporting.cells import Cell


@dataclass(frozen=True, kw_only=True)
class Value:
    """One table cell. ``order`` is what it sorts by; ``marks`` are style names."""

    text: str
    order: float | str | None = None
    detail: str = ""
    exact: str = ""
    marks: str = ""
    badges: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column; ``explains`` is its tooltip."""

    title: str
    explains: str = ""
    numeric: bool = True


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table whose first column names its rows."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]


PACK_COLUMNS = (
    Column(title="Recipe", numeric=False),
    Column(title="Status", numeric=False),
    Column(title="File", explains="Size of the model file"),
    Column(title="gzip", explains="Size after gzip -9: what a download costs"),
    Column(title="Keras", explains="Accuracy of the Keras model"),
    Column(title="Host", explains="Accuracy of the file on the host, on the same samples"),
    Column(title="Parameters"),
    Column(title="MACs", explains="Multiply-accumulates of one inference"),
    Column(title="Arena", explains="Planned activation memory of one inference"),
    Column(title="SQNR", explains="Outputs against the Keras model's: signal to noise in dB"),
    Column(title="Fit", explains="Whether the target can hold and run it", numeric=False),
)
MEASUREMENT_COLUMNS = (
    Column(title="Recipe", numeric=False),
    Column(title="Device", numeric=False),
    Column(title="Status", numeric=False),
    Column(title="Accuracy", explains="Accuracy on the device"),
    Column(title="p50 ± 95 %", explains="Median latency and the interval of that median"),
    Column(title="p90", explains="90 % of the inferences took at most this long"),
    Column(title="p99"),
    Column(title="First / init", explains="The first inference; loading and allocating before it"),
    Column(title="Memory / peak", explains="The model's share of the whole process's peak RSS"),
    Column(title="Arena", explains="Activation memory as the runtime reports it"),
    Column(title="Agreement", explains="Outputs against the host's, on the same inputs"),
)


def packs(section: ReportSection) -> Table:
    """What every recipe made, before any device."""
    before = next((p for p in section.packs if p.recipe == section.baseline), None)
    rows = [_pack_row(pack, before, section) for pack in section.packs]
    return filled("Packs: size, accuracy and cost of every recipe", PACK_COLUMNS, rows)


def measurements(section: ReportSection, found: Sequence[Cell]) -> Table:
    """What every device measured, failed cells included."""
    rows = [
        _measurement_row(section, cell, cell.measurement)
        for cell in found
        if cell.measurement is not None
    ]
    caption = "Measurements: latency, memory and agreement on every device"
    return filled(caption, MEASUREMENT_COLUMNS, rows)


def filled(caption: str, columns: tuple[Column, ...], rows: Sequence[tuple[Value, ...]]) -> Table:
    """A table of ``rows`` without the columns in which none says anything."""
    kept = [i for i in range(len(columns)) if any(_says(row[i]) for row in rows)]
    return Table(
        caption=caption,
        columns=tuple(columns[i] for i in kept),
        rows=tuple(tuple(row[i] for i in kept) for row in rows),
    )


def _says(value: Value) -> bool:
    return value.text != units.NOTHING or value.detail != ""


def _pack_row(pack: Pack, before: Pack | None, section: ReportSection) -> tuple[Value, ...]:
    artefact, quality, cost = pack.artefact, pack.quality, pack.cost
    base = before.artefact if before is not None and before is not pack else None
    metric = quality.metric if quality is not None else ""
    lost = units.loss(metric, quality.reference, quality.host) if quality is not None else None
    return (
        Value(
            text=pack.recipe,
            order=pack.recipe,
            badges=("baseline",) if pack.recipe == section.baseline else (),
        ),
        _status(pack.status, pack.error.message if pack.error else "", _hint(pack)),
        _bytes(
            artefact.size_bytes if artefact else None,
            units.ratio(base.size_bytes, artefact.size_bytes, "smaller", "larger")
            if base and artefact
            else "",
        ),
        _bytes(artefact.gzip_bytes if artefact else None),
        _score(metric, quality.reference if quality else None, metric),
        _score(metric, quality.host if quality else None, units.change(metric, lost)),
        _count(cost.params if cost else None),
        _count(cost.macs if cost else None),
        _bytes(pack.memory.arena_bytes if pack.memory else None),
        _checked(pack),
        _fit(pack),
    )


def _measurement_row(section: ReportSection, cell: Cell, m: Measurement) -> tuple[Value, ...]:
    latency, memory, quality = m.latency_us, m.memory, m.quality
    badges = (
        *(("emulated",) if m.device.emulated else ()),
        *((f"is {m.device.target}",) if m.device.target != section.target else ()),
    )
    unreal = "unreal" if m.device.emulated else ""
    runtime = f"{m.runtime.name} {m.runtime.version}" if m.runtime is not None else ""
    metric = quality.metric if quality is not None else ""

    def time(value: float | None, detail: str = "") -> Value:
        return Value(
            text=units.duration(value),
            order=value,
            detail=detail,
            exact=f"{value:,.1f} µs" if units.known(value) else "",
            marks=unreal,
        )

    return (
        Value(text=cell.recipe, order=cell.recipe),
        Value(text=cell.label, order=cell.label, detail=runtime, badges=badges),
        _status(cell.status, cell.error.message if cell.error else "", _hint(cell)),
        _score(metric, quality.device if quality else None, ""),
        time(latency.p50, units.spread(*latency.ci95)) if latency else _instructions(m),
        time(latency.p90 if latency else None),
        time(latency.p99 if latency else None),
        time(m.first_us, f"init {units.duration(m.init_us)}" if units.known(m.init_us) else ""),
        _bytes(
            memory.model_bytes if memory else None,
            f"peak {units.size(memory.peak_rss_bytes)}" if memory and memory.peak_rss_bytes else "",
        ),
        _bytes(memory.arena_bytes if memory else None),
        _agreement(m),
    )


def _bytes(count: int | None, detail: str = "") -> Value:
    exact = f"{count:,} bytes" if count is not None else ""
    return Value(text=units.size(count), order=count, detail=detail, exact=exact)


def _count(count: int | None) -> Value:
    exact = f"{count:,}" if count is not None else ""
    return Value(text=units.quantity(count), order=count, exact=exact)


def _score(metric: str, value: float | None, detail: str) -> Value:
    shown = detail if units.known(value) else ""
    return Value(text=units.score(metric, value), order=value, detail=shown)


def _checked(pack: Pack) -> Value:
    check = pack.check
    if check is None:
        return Value(text=units.NOTHING)
    if check.status != "ok":
        return Value(text=check.status, exact=check.why, marks="quiet")
    if not units.known(check.sqnr_db):
        return Value(text="exact" if check.mse == 0 else units.NOTHING, order=1e9)
    samples = f"{check.samples:,} samples in {check.runtime}"
    return Value(text=f"{check.sqnr_db:.1f} dB", order=check.sqnr_db, exact=samples)


def _fit(pack: Pack) -> Value:
    if pack.fit is None:
        return Value(text=units.NOTHING)
    reasons = " ".join(pack.fit.reasons)
    if pack.fit.ok:
        return Value(text="fits", order=0, exact=reasons, marks="good")
    return Value(text="does not fit", order=1, detail=reasons, marks="bad wordy")


def _status(status: str, message: str, hint: str) -> Value:
    mark = {"ok": "good", "not measured": "quiet", "unchecked": "quiet"}.get(status, "bad")
    detail = f"{message} — {hint}" if message and hint else message
    return Value(text=status, order=status, exact=detail, marks=mark)


def _hint(thing: Pack | Cell) -> str:
    return thing.error.hint if thing.error is not None else ""


def _instructions(m: Measurement) -> Value:
    """A target that only counts: instructions stand where the latency would."""
    if m.instructions is None:
        return Value(text=units.NOTHING)
    text = f"{units.quantity(m.instructions.mean)} instructions"
    return Value(text=text, order=m.instructions.mean, marks="unreal" if m.device.emulated else "")


def _agreement(m: Measurement) -> Value:
    a = m.agreement
    if a is None:
        return Value(text=units.NOTHING)
    if units.known(a.max_abs_lsb):
        text, order = (
            ("exact" if a.max_abs_lsb == 0 else f"≤ {units.digits(a.max_abs_lsb)} LSB"),
            a.max_abs_lsb,
        )
    elif units.known(a.max_abs):
        text, order = ("exact" if a.max_abs == 0 else f"≤ {units.digits(a.max_abs, 2)}"), a.max_abs
    else:
        text, order = units.NOTHING, 0.0
    same = f"top-1 {a.top1_match * 100:.4g} %" if units.known(a.top1_match) else ""
    where = f"{a.samples:,} samples"
    if a.first_divergence:
        where += f"; first differs at {a.first_divergence}"
    return Value(text=text, order=order, detail=same, exact=where)
