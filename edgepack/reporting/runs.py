"""What was measured beyond one burst: a rival, a sustained load, counts of threads, operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgepack.records import Comparison, Measurement, ReportSection, Sustained
from edgepack.reporting import units
from edgepack.reporting.cells import Cell
from edgepack.reporting.plots import colors, plain_text
from edgepack.reporting.tables import Column, Table, Value

MOST_OPERATORS = 100


def sentences(found: Sequence[Cell]) -> list[str]:
    """One sentence for each comparison, sustained load, sweep and energy, with its numbers."""
    lines = []
    for cell in found:
        m = cell.measurement
        if m is None:
            continue
        where = f"{cell.recipe} on {cell.label}" + (" (emulated)" if m.device.emulated else "")
        told = [
            against(m.against) if m.against is not None else "",
            sustained(m.sustained) if m.sustained is not None else "",
            _sweep(m),
            _energy(m),
        ]
        lines += [f"{where}: {text}" for text in told if text]
    return list(dict.fromkeys(lines))


def against(found: Comparison) -> str:
    """Whether the other model is faster or slower, by how much, and whether that is real."""
    other = " ".join(part for part in (found.model, found.recipe) if part)
    if found.change is None or found.ci95 is None:
        return f"against {other}: no pair of bursts was finished"
    interval = f"95 % interval {_signed(found.ci95[0])} to {_signed(found.ci95[1])}"
    verdict = {
        "real": "the difference is real",
        "not real": f"the difference is not real: it is below {found.margin:.0%}",
        "can't tell": "one cannot tell whether the difference is real",
    }[found.verdict]
    hot = sum(pair.throttled for pair in found.pairs)
    caution = f"; throttled in {hot} of {len(found.pairs)} turns" if hot else ""
    return (
        f"{other} takes {_signed(found.change)} in {len(found.pairs)} turns "
        f"({interval}): {verdict}{caution}"
    )


def sustained(found: Sustained) -> str:
    """How a sustained load went, from its first minute to its last."""
    length = units.duration(found.seconds * 1e6)
    if found.drift is None:
        text = f"a sustained load of {length} is too short to tell a drift"
    else:
        part = "real" if found.drift.real else "not real"
        text = (
            f"after {length} an inference takes {_signed(found.drift.change)} "
            f"({units.duration(found.drift.first_us)} → {units.duration(found.drift.last_us)}; "
            f"the drift is {part})"
        )
    degrees = [one.temperature_c for one in found.bins if one.temperature_c is not None]
    hot = [one for one in found.bins if one.throttled]
    if degrees:
        text += f", at most {max(degrees):.0f} °C"
    if hot:
        text += f", throttled from {units.duration(hot[0].start_s * 1e6)} on" + (
            "" if len(hot) == len(found.bins) else f" in {len(hot)} of {len(found.bins)} bursts"
        )
    return text


def plot(section: ReportSection, found: Sequence[Cell]) -> dict[str, Any] | None:
    """Median latency in ms over minutes of sustained load; throttled bursts are crosses."""
    palette, traces = colors(section, found), []
    for cell in found:
        m = cell.measurement
        if m is None or m.sustained is None or not m.sustained.bins:
            continue
        bins, emulated = m.sustained.bins, m.device.emulated
        name = f"{cell.recipe} on {cell.label}" + (" (emulated)" if emulated else "")
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": plain_text(name),
                "x": [one.start_s / 60 for one in bins],
                "y": [one.p50_us / 1e3 for one in bins],
                "customdata": [
                    "<br>".join(
                        [
                            f"<b>{plain_text(name)}</b>",
                            f"p50 {units.duration(one.p50_us)}, p99 {units.duration(one.p99_us)}",
                            *([f"{one.temperature_c:.1f} °C"] if one.temperature_c else []),
                            *([f"{one.clock_khz / 1000:.0f} MHz"] if one.clock_khz else []),
                            *(["throttled"] if one.throttled else []),
                        ]
                    )
                    for one in bins
                ],
                "hovertemplate": "%{customdata}<extra></extra>",
                "marker": {
                    "symbol": ["x" if one.throttled else "circle" for one in bins],
                    "size": [9 if one.throttled else 5 for one in bins],
                },
                "line": {"width": 1.5, "dash": "dot" if emulated else "solid"},
                "meta": {"color": palette[cell.recipe]},
            }
        )
    if not traces:
        return None
    return {
        "data": traces,
        "layout": {
            "xaxis": {"title": {"text": "Minutes of load"}, "rangemode": "tozero"},
            "yaxis": {"title": {"text": "Latency p50 (ms)"}, "rangemode": "tozero"},
            "showlegend": len(traces) > 1,
        },
        "summary": "Median latency of each burst of a sustained load, over time.",
    }


def operators(found: Sequence[Cell]) -> list[Table]:
    """The times of operators of each cell that has them, the slowest first."""
    return [
        _operators(cell, cell.measurement)
        for cell in found
        if cell.measurement is not None and cell.measurement.operators is not None
    ]


def _operators(cell: Cell, m: Measurement) -> Table:
    times = m.operators
    if times is None:
        raise ValueError("the measurement has no times of operators")
    marks = "unreal" if m.device.emulated else ""
    ordered = sorted(times.operators, key=lambda one: -one.us)
    rows = [
        (
            Value(text=one.name, order=one.name, badges=("delegate",) if one.delegated else ()),
            Value(text=str(one.index), order=one.index),
            Value(text=units.duration(one.us), order=one.us, marks=marks),
            Value(text=f"{one.share:.1%}", order=one.share),
        )
        for one in ordered[:MOST_OPERATORS]
    ]  # fmt: skip
    rest = (
        f"; the {len(ordered) - MOST_OPERATORS} fastest are left out"
        if len(ordered) > MOST_OPERATORS
        else ""
    )
    trust = (
        f"{times.residual:.0%} of the median is in none of them"
        if times.reliable
        else f"UNRELIABLE: {times.residual:.0%} of the median is in none of them"
    )
    emulated = " (emulated)" if m.device.emulated else ""
    return Table(
        caption=(
            f"{cell.recipe} on {cell.label}{emulated}: {times.delegated:.0%} of the time in a "
            f"delegate; {trust}{rest}"
        ),
        columns=(
            Column(title="Operator", numeric=False),
            Column(title="#", explains="Its place in the order in which the runtime ran it"),
            Column(title="Time", explains=f"Typical of {times.runs} profiled inferences"),
            Column(title="Share", explains="Of the sum of all operators"),
        ),
        rows=tuple(rows),
    )


def _sweep(m: Measurement) -> str:
    if not m.sweep or m.runtime is None:
        return ""
    each = ", ".join(f"{run.threads}: {units.duration(run.latency_us.p50)}" for run in m.sweep)
    word = "thread is" if m.runtime.threads == 1 else "threads are"
    return f"{m.runtime.threads} {word} the fastest (p50 by threads: {each})"


def _energy(m: Measurement) -> str:
    if m.energy is None or m.energy.seconds <= 0:
        return ""
    watts = m.energy.joules / m.energy.seconds
    return (
        f"{units.digits(m.energy.joules)} J in {units.digits(m.energy.seconds)} s "
        f"({units.digits(watts)} W, the whole device, {m.energy.inferences:,} inferences)"
    )


def _signed(change: float) -> str:
    """``12 % more``, ``3 % less`` time."""
    text = units.digits(abs(change) * 100, 2)
    return f"{text} % {'more' if change >= 0 else 'less'}"
