"""Records as tables for people; JSON is for programs."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from edgepack.records import Facts, Measurement, Pack, Quality
from edgepack.reporting.cells import Cell
from edgepack.reporting.runs import operators, sentences
from edgepack.reporting.tables import Table as Times
from edgepack.reporting.units import NOTHING, duration, quantity, score, size, spread

MOST_OPERATORS = 15


def packs_table(packs: Sequence[Pack]) -> str:
    """One row a pack: what it weighs, how good it is, whether it fits."""
    table = new_table(
        "target", "recipe", "status", "size", "gzip", "arena", "MACs", "quality", "fits"
    )
    for pack in packs:
        artefact, memory, cost, fit = pack.artefact, pack.memory, pack.cost, pack.fit
        table.add_row(
            pack.target,
            pack.recipe,
            pack.status,
            size(artefact.size_bytes) if artefact else NOTHING,
            size(artefact.gzip_bytes) if artefact else NOTHING,
            size(memory.arena_bytes) if memory else NOTHING,
            quantity(cost.macs) if cost else NOTHING,
            _quality(pack.quality),
            NOTHING if fit is None else "yes" if fit.ok else "no",
        )
    notes = [
        f"{pack.recipe} does not fit {pack.target}: {reason}"
        for pack in packs
        if pack.fit is not None and not pack.fit.ok
        for reason in pack.fit.reasons
    ]
    return "\n".join([as_text(table), *notes]).rstrip() + "\n"


def measurements_table(measurements: Sequence[Measurement]) -> str:
    """One row a measurement: how fast, how much memory, how good."""
    table = new_table("device", "model", "runner", "status", "p50", "p90", "peak RSS", "quality")
    for found in measurements:
        latency, memory = found.latency_us, found.memory
        table.add_row(
            found.device.id + (" (emulated)" if found.device.emulated else ""),
            " ".join(part for part in (found.model, found.recipe) if part),
            found.runtime.runner if found.runtime else NOTHING,
            found.status,
            f"{duration(latency.p50)} {spread(*latency.ci95)}" if latency else NOTHING,
            duration(latency.p90) if latency else NOTHING,
            size(memory.peak_rss_bytes) if memory and memory.peak_rss_bytes else NOTHING,
            _quality(found.quality),
        )
    alone = [
        Cell(
            recipe=found.recipe or found.model, label=found.device.id, pack=None, measurement=found
        )
        for found in measurements
    ]
    parts = [as_text(table), *sentences(alone), *map(_operators, operators(alone))]
    return "\n".join(parts).rstrip() + "\n"


def _operators(times: Times) -> str:
    """The slowest operators of one measurement, under a line that says whose they are."""
    table = new_table(*(column.title for column in times.columns))
    for row in times.rows[:MOST_OPERATORS]:
        table.add_row(*(" ".join([value.text, *value.badges]) for value in row))
    return f"\n{times.caption}\n{as_text(table)}"


def facts_text(facts: Facts) -> str:
    """A summary, the per-layer table, and the fit."""
    cost, memory = facts.cost, facts.memory
    lines = [
        f"{facts.file}: {size(facts.size_bytes)}, gzip {size(facts.gzip_bytes)}",
        f"parameters {quantity(cost.params)}, MACs {quantity(cost.macs)}, "
        f"moves {size(cost.bytes_moved)} an inference",
        f"arena {size(memory.arena_bytes)} (no plan below {size(memory.lower_bound_bytes)})",
        "weights "
        + (
            ", ".join(f"{size(n)} {name}" for name, n in facts.tensors.weight_bytes.items())
            or NOTHING
        )
        + f"; {facts.sparsity.fraction:.1%} of them zero",
    ]
    for signature in facts.signatures:
        for way, specs in (("in ", signature.inputs), ("out", signature.outputs)):
            for spec in specs:
                shape = "×".join(map(str, spec.shape)) or "scalar"
                lines.append(f"{way} {spec.name}: {spec.dtype} {shape}")
    if facts.custom_ops:
        lines.append("custom operators: " + ", ".join(facts.custom_ops))
    table = new_table("#", "operator", "layer", "output", "type", "MACs", "params", "weights")
    for row in facts.operators:
        table.add_row(
            str(row.index),
            row.name,
            _short(row.layer),
            "×".join(map(str, row.output_shape)),
            row.dtype,
            quantity(row.macs) if row.macs else NOTHING,
            quantity(row.params) if row.params else NOTHING,
            f"{row.weights} {row.granularity}" if row.weights else NOTHING,
        )
    fit = [] if facts.fit is None else [f"fits: {'yes' if facts.fit.ok else 'no'}"]
    fit += list(facts.fit.reasons) if facts.fit is not None else []
    return "\n".join([*lines, as_text(table), *fit]).rstrip() + "\n"


def _short(layer: str) -> str:
    """A layer's name as the converter fused it, cut to its first part's end."""
    name = layer.partition(";")[0]
    return name if len(name) <= 40 else "…" + name[-39:]


def _quality(quality: Quality | None) -> str:
    """``top1 98.2 % (Keras 98.4 %)``: the value nearest to the device, and the reference."""
    if quality is None:
        return NOTHING
    found = quality.device if quality.device is not None else quality.host

    reference = score(quality.metric, quality.reference)
    return f"{quality.metric} {score(quality.metric, found)} (model {reference})"


def new_table(*columns: str) -> Table:
    """A plain table with these columns."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def as_text(table: Table) -> str:
    """A table as wide as the terminal, without colours."""
    width = shutil.get_terminal_size((120, 24)).columns if sys.stderr.isatty() else 160
    buffer = io.StringIO()
    console = Console(
        file=buffer, width=width, color_system=None, markup=False, emoji=False, highlight=False
    )
    console.print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"
