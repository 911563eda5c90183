"""A diagnosis as text for people: the layers, the worst first, and what may help them."""

from __future__ import annotations

from edgepack.cli.tables import as_text, new_table
from edgepack.records import Debug, Rescue
from edgepack.reporting.losses import cause, decibels, worst_first
from edgepack.reporting.units import NOTHING, digits, quantity, score, size


def debug_text(found: Debug) -> str:
    """The summary, one row a layer, the suggestions, and the rescue."""
    output = found.output
    lines = [
        f"{found.file} against {found.model}: {found.matched} operators compared on "
        f"{found.samples} samples in {found.runtime}",
        f"output: SQNR {decibels(output.sqnr_db)}, cosine {digits(output.cosine, 6)}, "
        f"largest error {digits(output.max_abs)}",
    ]
    if found.unmatched:
        lines.append("without a like in the model: " + ", ".join(found.unmatched))
    table = new_table(
        "layer",
        "operator",
        "type",
        "own SQNR",
        "of it",
        "SQNR here",
        "cosine",
        "max",
        "LSB",
        "MACs",
    )
    for row in worst_first(found.layers):
        table.add_row(
            row.layer,
            row.op,
            row.dtype,
            decibels(row.local_sqnr_db),
            cause(row),
            decibels(row.sqnr_db),
            digits(row.cosine, 4),
            digits(row.max_abs),
            digits(row.max_lsb),
            quantity(row.macs) if row.macs else NOTHING,
        )
    told = [
        f"{row.layer} ({row.op}): {row.suggestion.what}\n  because {row.suggestion.why}"
        for row in worst_first(found.layers)
        if row.suggestion is not None
    ]
    told += [f"the model: {s.what}\n  because {s.why}" for s in found.suggestions]
    rescued = _rescue(found.rescued) if found.rescued is not None else []
    return "\n".join([*lines, *found.notes, as_text(table), *told, *rescued]).rstrip() + "\n"


def _rescue(found: Rescue) -> list[str]:
    """What was tried, what came of it."""
    value = {
        name: score(found.metric, getattr(found, name)) for name in ("reference", "before", "after")
    }
    start = f"limit {found.limit}: {found.metric} {value['before']} (model {value['reference']})"
    if found.met and not found.tried:
        return [f"{start}: met already, nothing to keep wider"]
    kept = (
        f"{', '.join(found.layers)} in {found.scheme}, the rest in {found.otherwise}"
        if found.layers
        else f"all in {found.scheme}, made anew"
    )
    lines = [
        start,
        f"{'met' if found.met else 'NOT met; the best of all tries'} with {kept}: "
        f"{value['after']}, {size(found.size_before_bytes)} → {size(found.size_after_bytes)}, "
        f"{found.wide_macs:.0%} of the MACs wider, {len(found.tried)} tries; "
        f"the {found.samples} evaluation samples chose the layers too",
    ]
    lines += [f"written: {path}" for path in (found.file, found.recipe) if path is not None]
    return lines
