"""The rows of ``benchmarks.compress``: as one table, and as the figures of the docs' pages."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.paired import Difference
from edgepack.files import write_text

MARKED = re.compile(r"(<!-- figures: ([^>]*?) -->\n).*?(<!-- end -->)", re.DOTALL)
"""A place in a page for the figures of the recipes that it names."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one technique is worth on one model."""

    model: str
    technique: str
    maker: str
    seeds: int
    accuracy: float
    seed_spread: float
    to_float: Difference
    size_bytes: int
    gzip_bytes: int
    params: int
    macs: int
    arena_bytes: int
    latency_us: float
    latency_ratio: float
    training_s: float

    @property
    def beside(self) -> str:
        """The recipe that a peer's technique shares its training budget with."""
        return self.technique.partition("(")[2].rstrip(")")


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = [
        f"\n## {rows[0].model}: {len(rows)} techniques",
        "| technique | by | top-1 % | seeds' range | points to float [95 %] | bytes | gzip | "
        "params | MACs | arena | µs | ÷ float | training s |",
        "| --- | --- | " + "---: | " * 11,
    ]
    for row in rows:
        cells = [
            row.technique,
            row.maker,
            f"{100 * row.accuracy:.2f}",
            f"{100 * row.seed_spread:.2f} ({row.seeds})",
            str(row.to_float),
            f"{row.size_bytes:,}",
            f"{row.gzip_bytes:,}",
            f"{row.params:,}",
            f"{row.macs:,}",
            f"{row.arena_bytes:,}",
            f"{row.latency_us:.1f}",
            f"{row.latency_ratio:.2f}",
            f"{row.training_s:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def fill(pages: Path, results: Sequence[Path]) -> None:
    """Write the figures in ``results`` into the marked places of the pages in a folder."""
    rows = [row for path in results for row in _read(path)]
    for page in sorted(pages.glob("*.md")):
        text = page.read_text()
        filled = MARKED.sub(lambda m: m[1] + _figures(m[2].split(), rows) + m[3], text)
        if filled != text:
            write_text(page, filled)


def _read(path: Path) -> list[Row]:
    return [
        Row(**{**row, "to_float": Difference(**row["to_float"])})
        for row in json.loads(path.read_bytes())
    ]


def _figures(recipes: Sequence[str], rows: Sequence[Row]) -> str:
    """The rows of those recipes, each with TFMOT's of the same training budget below it."""
    lines = [
        "By `python -m benchmarks.compress`, on test sets that nothing was tuned on; TFMOT with",
        "the same training data and epochs; the interval is over test samples. Latency: LiteRT on",
        "an x86-64 machine, one thread, as a share of the float file's. What is missing here has",
        "not been run yet.",
        "",
        "| model | recipe | by | top-1 % (seeds) | points to float [95 %] | bytes | gzip | MACs "
        "| latency ÷ float |",
        "| --- | --- | --- | " + "---: | " * 6,
    ]
    for model in dict.fromkeys(row.model for row in rows):
        for recipe in recipes:
            for row in rows:
                if row.model != model or recipe not in (row.technique, row.beside):
                    continue
                cells = [
                    *(model, f"`{recipe}`" if row.technique == recipe else row.technique),
                    *(row.maker, f"{100 * row.accuracy:.2f} ({row.seeds})", str(row.to_float)),
                    *(f"{row.size_bytes:,}", f"{row.gzip_bytes:,}", f"{row.macs:,}"),
                    f"{row.latency_ratio:.2f}",
                ]
                lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
