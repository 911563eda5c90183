"""Which layers of a file lose most, as ``edgepack debug`` found: a table, and lines of Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from edgepack.records import Debug, LayerError, ReportSection
from edgepack.reporting import units
from edgepack.reporting.tables import Column, Table, Value

WORST = 5
"""So many layers of each recipe; ``edgepack debug`` lists all."""
SOURCES = ("input", "weights", "output")
COLUMNS = (
    Column(title="Recipe", numeric=False),
    Column(title="Layer", numeric=False),
    Column(title="Own SQNR", explains="What the layer loses by itself, fed with float values"),
    Column(title="SQNR here", explains="What has been lost from the input to here"),
    Column(title="Cosine", explains="Between the file's values and the float model's"),
    Column(title="Largest", explains="Largest error, and in steps of the tensor's scale"),
    Column(title="May help", numeric=False),
)


def table(section: ReportSection) -> Table:
    """The layers that lose most in each recipe that was looked at."""
    return Table(
        caption="Layers that lose most, against the float model",
        columns=COLUMNS,
        rows=tuple(
            _row(recipe, row)
            for recipe, found in section.debugs.items()
            for row in worst_first(found.layers)[:WORST]
            if row.sqnr_db is not None
        ),
    )


def told(found: Debug) -> str:
    """The worst layer of a file, and its rescue, in a sentence or two."""
    worst = next(iter(worst_first(found.layers)), None)
    if worst is None or worst.local_sqnr_db is None:
        return "no layer loses anything"
    why = f" ({cause(worst)})" if cause(worst) != units.NOTHING else ""
    text = f"{worst.layer} loses most: {decibels(worst.local_sqnr_db)} by itself{why}"
    if worst.suggestion is not None:
        text += f"; {worst.suggestion.what}"
    if (rescued := found.rescued) is not None and rescued.met and rescued.layers:
        text += (
            f". With {', '.join(rescued.layers)} in {rescued.scheme}: "
            f"{rescued.metric} {units.score(rescued.metric, rescued.after)}"
        )
    return text


def worst_first(layers: Sequence[LayerError]) -> list[LayerError]:
    """The layers by their own error, those that have none last."""
    return sorted(layers, key=lambda row: 999.0 if row.local_sqnr_db is None else row.local_sqnr_db)


def cause(row: LayerError) -> str:
    """Where most of a layer's own error comes from."""
    shares = (row.from_input, row.from_weights, row.from_output)
    known = [(s, name) for s, name in zip(shares, SOURCES, strict=True) if s is not None]
    if not known:
        return units.NOTHING
    share, name = max(known)
    return f"{share:.0%} {name}"


def decibels(value: float | None) -> str:
    """``31.4 dB``."""
    return units.NOTHING if value is None else f"{value:.1f} dB"


def _row(recipe: str, row: LayerError) -> tuple[Value, ...]:
    steps = f"{units.digits(row.max_lsb)} steps" if row.max_lsb is not None else ""
    own = cause(row)
    return (
        Value(text=recipe, order=recipe),
        Value(text=row.layer, order=row.layer, detail=row.op),
        Value(
            text=decibels(row.local_sqnr_db),
            order=row.local_sqnr_db,
            detail="" if own == units.NOTHING else own,
        ),
        Value(text=decibels(row.sqnr_db), order=row.sqnr_db),
        Value(text=units.digits(row.cosine, 4), order=row.cosine),
        Value(text=units.digits(row.max_abs), order=row.max_abs, detail=steps),
        Value(
            text=row.suggestion.what if row.suggestion else units.NOTHING,
            detail=row.suggestion.why if row.suggestion else "",
        ),
    )
