"""A report as Markdown that fits a comment on a pull request."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgepack.records import Report, ReportSection, Verdict
from edgepack.reporting import runs, steps, units
from edgepack.reporting.cells import Cell, cells
from edgepack.reporting.choice import accuracy, candidate
from edgepack.reporting.headline import cards
from edgepack.reporting.losses import told
from edgepack.reporting.tables import Table, Value

MARKS = {True: "✅", False: "❌", None: "➖"}
MOST_ROWS = 60
MOST_VERDICTS = 40
MOST_STEPS = 20
MOST_CHARACTERS = 60_000


def to_markdown(report: Report) -> str:
    """GitHub-flavoured Markdown: verdicts first, then what changed, then the table.

    Text from models and devices is escaped. A comment holds 65,536 characters: long lists are
    cut, and sections beyond that left out; both say how much there is more.
    """
    parts = [f"## {plain(report.title)}", _totals(report), _cautions(report)]
    room = MOST_CHARACTERS
    for index, section in enumerate(report.sections):
        lines = "\n\n".join(part for part in _section(section) if part)
        room -= len(lines)
        if room < 0:
            parts.append(f"{len(report.sections) - index} more sections in the page.")
            break
        parts.append(lines)
    versions = ", ".join(f"{plain(k)} {plain(v)}" for k, v in report.versions.items())
    parts.append(f"<sub>{plain(report.created_at)}{' · ' if versions else ''}{versions}</sub>")
    return "\n\n".join(part for part in parts if part) + "\n"


def plain(text: str) -> str:
    """``text`` on one line, with nothing that Markdown, HTML or a mention would act on."""
    flat = " ".join(text.split())
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    flat = re.sub(r"([\\`*_\[\]|#~!])", r"\\\1", flat)
    return re.sub(r"@(?=\w)", "@\u200b", flat).replace("://", ":\u200b//")


def _totals(report: Report) -> str:
    verdicts = [verdict for section in report.sections for verdict in section.verdicts]
    counts = {met: sum(v.met is met for v in verdicts) for met in (False, True, None)}
    failed = sum(
        cell.status not in ("ok", "not measured", "unchecked")
        for section in report.sections
        for cell in cells(section)
    )
    words = [
        f"{MARKS[met]} **{count}** {word}"
        for met, word in ((False, "missed"), (True, "met"), (None, "not judged"))
        if (count := counts[met])
    ]
    if failed:
        words.append(f"⚠️ **{failed}** failed")
    if not report.sections:
        return "Nothing has been packed or measured yet."
    return " · ".join(words) or "No limits are set."


def _cautions(report: Report) -> str:
    missing = [f"Missing here: {problem.message}" for problem in report.problems]
    return "\n".join(f"- ⚠️ {plain(line)}" for line in (*missing, *report.cautions))


def _section(section: ReportSection) -> list[str]:
    found = cells(section)
    return [
        f"### {plain(section.model)} → {plain(section.target_name)}",
        _verdicts(section.verdicts),
        _headline(section, found),
        _table(section, found),
        _failures(found),
        *_runs(found),
        _losses(section),
        *_steps(section),
    ]


def _runs(found: Sequence[Cell]) -> list[str]:
    """What was measured beyond one burst, and what makes a burst's figures doubtful."""
    told = runs.sentences(found)
    lines = [f"- {plain(line)}" for line in told[:MOST_VERDICTS]]
    for cell in found:
        m = cell.measurement
        if m is not None and m.drift is not None and m.drift.real:
            lines.append(
                f"- ⚠️ {plain(cell.recipe)} on {plain(cell.label)}: the burst drifted from "
                f"{units.duration(m.drift.first_us)} to {units.duration(m.drift.last_us)}"
            )
    if len(lines) > MOST_VERDICTS:
        lines[MOST_VERDICTS:] = [f"- {len(lines) - MOST_VERDICTS} more in the page."]
    return ["\n".join(lines), *map(_folded, runs.operators(found)[:MOST_STEPS])]


def _steps(section: ReportSection) -> list[str]:
    """What each step of a recipe brought and cost, folded."""
    found = steps.attributions(section)
    parts = [_folded(one.table) for one in found[:MOST_STEPS]]
    if len(found) > MOST_STEPS:
        parts.append(f"The steps of {len(found) - MOST_STEPS} more recipes are in the page.")
    return parts


def _folded(table: Table) -> str:
    """A table that a reader opens."""
    lines = [
        f"<details><summary>{plain(table.caption)}</summary>",
        "",
        "| " + " | ".join(column.title for column in table.columns) + " |",
        "| --- |" + " ---: |" * (len(table.columns) - 1),
        *("| " + " | ".join(map(_cell, row)) + " |" for row in table.rows[:MOST_ROWS]),
        "",
        "</details>",
    ]
    return "\n".join(lines)


def _cell(value: Value) -> str:
    return plain(value.text) + (f" ({plain(value.detail)})" if value.detail else "")


def _verdicts(verdicts: Sequence[Verdict]) -> str:
    loud = _listed([v for v in verdicts if v.met is not True])
    met = [v for v in verdicts if v.met]
    if not met:
        return loud
    word = "limit" if len(met) == 1 else "limits"
    summary = f"<details><summary>{len(met)} {word} met</summary>"
    folded = f"{summary}\n\n{_listed(met)}\n\n</details>"
    return f"{loud}\n\n{folded}" if loud else folded


def _listed(verdicts: Sequence[Verdict]) -> str:
    """One line a verdict, missed ones first."""
    ordered = sorted(verdicts, key=lambda verdict: verdict.met is not False)
    lines = [f"- {MARKS[v.met]} {plain(v.sentence)}" for v in ordered[:MOST_VERDICTS]]
    if len(ordered) > MOST_VERDICTS:
        lines.append(f"- {len(ordered) - MOST_VERDICTS} more in the page and in the JSON.")
    return "\n".join(lines)


def _headline(section: ReportSection, found: Sequence[Cell]) -> str:
    shown = cards(section, found)
    chosen = candidate(section)
    if not shown or chosen is None or section.baseline is None:
        return ""
    figures = "; ".join(
        f"{plain(card.title.lower())} {card.before} → **{card.after}** ({card.change})"
        for card in shown
    )
    return f"`{_code(section.baseline)}` → `{_code(chosen.recipe)}`: {figures}"


def _code(text: str) -> str:
    return " ".join(text.split()).replace("`", "ˋ")


def _table(section: ReportSection, found: Sequence[Cell]) -> str:
    lines = [
        "| recipe | device | size | gzip | accuracy | p50 | p90 | memory | status |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    lines += [_row(section, cell) for cell in found[:MOST_ROWS]]
    if len(found) > MOST_ROWS:
        lines.append(f"\n{len(found) - MOST_ROWS} more in the page and in the JSON.")
    return "\n".join(lines) if found else ""


def _row(section: ReportSection, cell: Cell) -> str:
    pack, m = cell.pack, cell.measurement
    artefact = pack.artefact if pack is not None else None
    metric, value = accuracy(pack)
    if m is not None and m.quality is not None and units.known(m.quality.device):
        metric, value = m.quality.metric, m.quality.device
    latency = m.latency_us if m is not None else None
    memory = m.memory.model_bytes if m is not None and m.memory is not None else None
    if memory is None and m is not None and m.memory is not None:
        memory = m.memory.arena_bytes
    where = plain(cell.label) or units.NOTHING
    if m is not None and m.device.emulated:
        where += " *(emulated)*"
    if m is not None and m.device.target != section.target:
        where += " *(another target)*"
    figures = [
        plain(cell.recipe),
        where,
        units.size(artefact.size_bytes if artefact is not None else None),
        units.size(artefact.gzip_bytes if artefact is not None else None),
        units.score(metric, value),
        units.duration(latency.p50 if latency is not None else None),
        units.duration(latency.p90 if latency is not None else None),
        units.size(memory),
        cell.status,
    ]
    return "| " + " | ".join(figures) + " |"


def _losses(section: ReportSection) -> str:
    """A line for each file that ``debug`` has looked at."""
    lines = [
        f"- `{_code(recipe)}`: {plain(told(found))}" for recipe, found in section.debugs.items()
    ]
    if len(lines) > MOST_VERDICTS:
        lines[MOST_VERDICTS:] = [f"- {len(lines) - MOST_VERDICTS} more in the page."]
    return "\n".join(lines)


def _failures(found: Sequence[Cell]) -> str:
    lines = [
        f"- ⚠️ {plain(cell.recipe)}{' on ' + plain(cell.label) if cell.label else ''}: "
        f"{plain(cell.error.message)}" + (f" ({plain(cell.error.hint)})" if cell.error.hint else "")
        for cell in found
        if cell.error is not None
    ]
    if len(lines) > MOST_VERDICTS:
        lines[MOST_VERDICTS:] = [f"- {len(lines) - MOST_VERDICTS} more failures in the page."]
    return "\n".join(lines)
