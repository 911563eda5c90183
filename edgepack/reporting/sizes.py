"""Where a file's bytes go: weights by dtype, and everything else."""

from __future__ import annotations

from typing import Any

from edgepack.records import Operator, ReportSection
from edgepack.reporting import units

REST = "structure and metadata"


def parts(operators: tuple[Operator, ...], size_bytes: int) -> dict[str, int]:
    """Bytes of a file by the dtype of the weights that they hold; the rest is named so.

    Operators may share weights: the sum of theirs is then cut to what the file holds.
    """
    found: dict[str, int] = {}
    left = size_bytes
    for operator in sorted(operators, key=lambda op: -op.weight_bytes):
        taken = min(operator.weight_bytes, left)
        if taken > 0:
            kind = f"{operator.weights or operator.dtype} weights"
            found[kind] = found.get(kind, 0) + taken
            left -= taken
    return {**found, REST: left} if operators else {"file": size_bytes}


def breakdown(section: ReportSection) -> dict[str, Any] | None:
    """A stacked bar for every recipe, in KiB, with the gzip size as a mark on it."""
    made = [pack for pack in section.packs if pack.artefact is not None]
    if not made:
        return None
    files = {
        pack.recipe: parts(section.operators.get(pack.recipe, ()), pack.artefact.size_bytes)
        for pack in made
        if pack.artefact is not None
    }
    kinds = list(dict.fromkeys(kind for found in files.values() for kind in found))
    kinds.sort(key=lambda kind: (kind == REST, kind == "file"))
    names = list(files)
    traces: list[dict[str, Any]] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": kind,
            "y": names,
            "x": [files[name].get(kind, 0) / 1024 for name in names],
            "text": [units.size(files[name].get(kind, 0)) for name in names],
            "textposition": "none",
            "hovertemplate": "%{text} "
            + kind.replace("{", "(").replace("<", "(")
            + "<extra></extra>",
            "meta": {"tone": "rest" if kind == REST else index},
        }
        for index, kind in enumerate(kinds)
    ]
    gzip = [pack.artefact.gzip_bytes for pack in made if pack.artefact is not None]
    traces.append(
        {
            "type": "scatter",
            "mode": "markers",
            "name": "gzip",
            "y": names,
            "x": [count / 1024 for count in gzip],
            "text": [units.size(count) for count in gzip],
            "hovertemplate": "%{text} after gzip<extra></extra>",
            "marker": {"symbol": "line-ns-open", "size": 18, "line": {"width": 3}},
            "meta": {"color": "ink"},
        }
    )
    return {
        "data": traces,
        "layout": {
            "barmode": "stack",
            "xaxis": {"title": {"text": "KiB"}, "rangemode": "tozero"},
            "yaxis": {"autorange": "reversed", "type": "category", "automargin": True},
            "showlegend": True,
            "legend": {"traceorder": "normal"},
            "height": 150 + 38 * len(names),
        },
        "summary": "The mark on each bar is the size after gzip.",
    }
