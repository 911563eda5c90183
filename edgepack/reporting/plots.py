"""Plots as plain Plotly figures; the page gives them the theme's colours.

A trace's ``meta.color`` is the index of its recipe (a list for one index a point), so that a
recipe keeps its colour in every plot.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgepack.records import ReportSection
from edgepack.reporting import units
from edgepack.reporting.cells import Cell
from edgepack.reporting.choice import accuracy, frontier

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
MOST_LABELS = 10
MOST_SAMPLES = 1000
MOST_IN_ALL = 200_000


@dataclass(frozen=True, kw_only=True)
class Point:
    """One recipe in a trade-off: a cost (KiB or ms) and a metric's value."""

    recipe: str
    cost: float
    score: float
    series: str
    emulated: bool
    details: tuple[str, ...]


def colors(section: ReportSection, found: Sequence[Cell]) -> dict[str, int]:
    """The index of every recipe's colour."""
    names = dict.fromkeys([*(p.recipe for p in section.packs), *(cell.recipe for cell in found)])
    return {name: index for index, name in enumerate(names)}


def size_tradeoff(section: ReportSection, found: Sequence[Cell]) -> dict[str, Any] | None:
    """Accuracy on the host against the file's size."""
    metric = _metric(section)
    points = [
        Point(
            recipe=pack.recipe,
            cost=pack.artefact.size_bytes / 1024,
            score=value,
            series="file",
            emulated=False,
            details=(
                f"file {units.size(pack.artefact.size_bytes)}",
                f"{metric} {units.score(metric, value)}",
            ),
        )
        for pack in section.packs
        if pack.artefact is not None and units.known(value := accuracy(pack)[1])
    ]
    limit = _allowed(section, "max_flash_kib")
    return _tradeoff(section, found, points, metric, "File size (KiB)", limit, units_of_cost="KiB")


def latency_tradeoff(section: ReportSection, found: Sequence[Cell]) -> dict[str, Any] | None:
    """Accuracy (on the device, else on the host) against the p90 that limits judge."""
    metric = _metric(section)
    points = []
    for cell in found:
        m = cell.measurement
        if m is None or m.latency_us is None or not units.known(m.latency_us.p90):
            continue
        value = m.quality.device if m.quality is not None else None
        value = value if units.known(value) else accuracy(cell.pack)[1]
        if not units.known(value) or m.latency_us.p90 <= 0:
            continue
        points.append(
            Point(
                recipe=cell.recipe,
                cost=m.latency_us.p90 / 1e3,
                score=value,
                series=cell.label,
                emulated=m.device.emulated,
                details=(
                    f"p50 {units.duration(m.latency_us.p50)} {units.spread(*m.latency_us.ci95)}",
                    f"p90 {units.duration(m.latency_us.p90)}",
                    f"{metric} {units.score(metric, value)}",
                ),
            )
        )
    limit = _allowed(section, "max_latency_ms")
    return _tradeoff(section, found, points, metric, "Latency p90 (ms)", limit, units_of_cost="ms")


def _metric(section: ReportSection) -> str:
    return next((p.quality.metric for p in section.packs if p.quality is not None), "accuracy")


def _allowed(section: ReportSection, limit: str) -> float | None:
    return next((v.allowed for v in section.verdicts if v.limit == limit), None)


def _tradeoff(
    section: ReportSection,
    found: Sequence[Cell],
    points: Sequence[Point],
    metric: str,
    cost_title: str,
    limit: float | None,
    *,
    units_of_cost: str,
) -> dict[str, Any] | None:
    if not points:
        return None
    palette = colors(section, found)
    share = metric in units.SHARES
    scale = 100 if share else 1
    turned = metric in units.LOWER_IS_BETTER
    series = list(dict.fromkeys(point.series for point in points))
    traces: list[dict[str, Any]] = []
    fronts: list[str] = []
    for index, name in enumerate(series):
        group = [point for point in points if point.series == name]
        front = frontier([(p.cost, -p.score if turned else p.score) for p in group])
        fronts.append(
            (f"{name}: " if len(series) > 1 else "") + ", ".join(group[i].recipe for i in front)
        )
        named = range(len(group)) if len(points) <= MOST_LABELS else front
        traces += _series(group, front, named, name, index, palette, scale)
    costs = [p.cost for p in points]
    log = max(costs) > 12 * min(costs) > 0
    near = limit is not None and _near(costs, limit)
    shapes: list[dict[str, Any]] = []
    if limit is not None and near:
        shapes.append(_line("x", limit, f"limit {units.digits(limit)} {units_of_cost}"))
    y: dict[str, Any] = {
        "title": {"text": f"{plain_text(metric)} (%)" if share else plain_text(metric)}
    }
    floor, shown = _allowed(section, "min_accuracy"), False
    if turned:
        y["autorange"] = "reversed"
    else:
        values = [p.score * scale for p in points]
        y["range"], shown = _heights(values, None if floor is None else floor * scale)
        if floor is not None and shown:
            label = f"at least {units.digits(floor * scale)}{' %' if share else ''}"
            shapes.append(_line("y", floor * scale, label))
    layout = {
        "xaxis": {
            "title": {"text": cost_title},
            "type": "log" if log else "linear",
            "range": _reach([*costs, limit] if limit is not None and near else costs, log),
        },
        "yaxis": y,
        "showlegend": len(series) > 1,
        "shapes": shapes,
    }
    far = limit is not None and not near
    note = (
        f"The limit, {units.digits(limit)} {units_of_cost}, lies outside the plot. " if far else ""
    )
    if floor is not None and not turned and not shown:
        floor_text = f"{units.digits(floor * scale)}{' %' if share else ''}"
        note += f"The floor, {floor_text}, lies outside the plot. "
    return {
        "data": traces,
        "layout": layout,
        "summary": f"{note}Pareto front: {'; '.join(fronts)}.",
    }


def _series(
    group: Sequence[Point],
    front: Sequence[int],
    named: Sequence[int],
    name: str,
    index: int,
    palette: dict[str, int],
    scale: float,
) -> list[dict[str, Any]]:
    emulated = group[0].emulated
    symbol = SYMBOLS[index % len(SYMBOLS)] + ("-open" if emulated else "")
    title = f"{name} (emulated)" if emulated else name
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": [group[i].cost for i in front],
        "y": [group[i].score * scale for i in front],
        "line": {"dash": "dot", "width": 1.5, "shape": "hv"},
        "hoverinfo": "skip",
        "showlegend": False,
        "meta": {"color": "line"},
    }
    dots = {
        "type": "scatter",
        "mode": "markers+text",
        "name": plain_text(title),
        "x": [p.cost for p in group],
        "y": [p.score * scale for p in group],
        "text": [plain_text(p.recipe) if i in named else "" for i, p in enumerate(group)],
        "textposition": [
            "top center" if i % 2 == 0 else "bottom center" for i in range(len(group))
        ],
        "customdata": [
            "<br>".join(
                [
                    f"<b>{plain_text(p.recipe)}</b>",
                    *([plain_text(title)] if title != "file" else []),
                    *map(plain_text, p.details),
                    *(["on the Pareto front"] if i in front else []),
                ]
            )
            for i, p in enumerate(group)
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
        "marker": {
            "symbol": symbol,
            "size": [13 if i in front else 9 for i in range(len(group))],
            "opacity": [1 if i in front else 0.55 for i in range(len(group))],
            "line": {"width": 2 if emulated else 1},
        },
        "meta": {"color": [palette[p.recipe] for p in group]},
    }
    return [line, dots]


def _near(costs: Sequence[float], limit: float) -> bool:
    return max(costs) / 50 <= limit <= 4 * max(costs)


def _reach(ends: Sequence[float], log: bool) -> list[float]:
    """The range of a cost axis, with room for labels."""
    low, high = min(ends), max(ends)
    if log:
        low, high = math.log10(low), math.log10(high)
        pad = (high - low) * 0.12
        return [low - pad, high + pad]
    pad = (high - low) * 0.15 or high * 0.3 or 1.0
    return [max(0.0, low - pad), high + pad]


def _heights(values: Sequence[float], floor: float | None) -> tuple[list[float], bool]:
    """The range of a score axis, and whether the floor is near enough to be drawn in it."""
    low, high = min(values), max(values)
    span = (high - low) or abs(high) * 0.02 or 1.0
    shown = floor is not None and low - 4 * span <= floor <= high + 4 * span
    if floor is not None and shown:
        low, high = min(low, floor), max(high, floor)
    pad = ((high - low) or span) * 0.18
    return [low - pad, high + pad], shown


def _line(axis: str, at: float, text: str) -> dict[str, Any]:
    ends = {"x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "paper"}
    if axis == "y":
        ends = {"y0": at, "y1": at, "x0": 0, "x1": 1, "xref": "paper"}
    where = {"textposition": "end"} if axis == "x" else {"textposition": "end", "xanchor": "right"}
    return {
        "type": "line",
        **ends,
        "name": "limit",
        "line": {"width": 1.5, "dash": "dash"},
        "label": {"text": text, **where},
    }


def plain_text(value: str) -> str:
    """Plotly reads a little HTML in its texts: names must not be read so."""
    return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def distribution(section: ReportSection, found: Sequence[Cell]) -> list[dict[str, Any]]:
    """Raw samples in µs by device, in the order that they were taken, at most 1,000 a cell."""
    palette = colors(section, found)
    sampled = [c for c in found if c.measurement is not None and c.measurement.samples_us]
    most = max(50, min(MOST_SAMPLES, MOST_IN_ALL // max(1, len(sampled))))
    devices: dict[str, dict[str, Any]] = {}
    for cell in sampled:
        m = cell.measurement
        if m is None or m.samples_us is None:
            continue
        every = math.ceil(len(m.samples_us) / most)
        group = devices.setdefault(
            cell.label, {"device": cell.label, "emulated": m.device.emulated, "cells": []}
        )
        group["cells"].append(
            {
                "recipe": cell.recipe,
                "color": palette[cell.recipe],
                "of": len(m.samples_us),
                "every": every,
                "samples": [float(f"{s:.5g}") for s in m.samples_us[::every] if units.known(s)],
            }
        )
    return list(devices.values())
