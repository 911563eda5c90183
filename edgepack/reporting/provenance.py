"""Where the numbers come from: tables of hashes, seeds, versions and devices' states."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from edgepack.records import Measurement, ReportSection
from edgepack.reporting import units
from edgepack.reporting.cells import Cell
from edgepack.reporting.tables import Column, Table, Value


def origins(section: ReportSection) -> Table:
    """Every pack's hash, seed and tool versions."""
    columns = ("Recipe", "SHA-256", "Seed", "Tools", "File")
    rows = [
        (
            Value(text=pack.recipe, order=pack.recipe),
            Value(text=pack.artefact.sha256 if pack.artefact else units.NOTHING, marks="code"),
            Value(text=str(pack.seed), order=pack.seed),
            Value(text=listed(pack.versions) or units.NOTHING, marks="wordy"),
            Value(text=pack.artefact.path if pack.artefact else units.NOTHING, marks="code"),
        )
        for pack in section.packs
    ]
    return _table("Packs: hashes, seeds and tools", columns, rows)


def runs(found: Sequence[Cell]) -> Table:
    """How every measurement was taken."""
    columns = ("Recipe", "Device", "Runtime", "Threads", "Runner", "Protocol", "Started")
    rows = []
    for cell in found:
        m = cell.measurement
        if m is None:
            continue
        runtime = m.runtime
        delegate = f", {runtime.delegate}" if runtime is not None and runtime.delegate else ""
        name = f"{runtime.name} {runtime.version}{delegate}" if runtime else units.NOTHING
        rows.append(
            (
                Value(text=cell.recipe, order=cell.recipe),
                Value(text=cell.label, order=cell.label),
                Value(text=name),
                Value(text=str(runtime.threads) if runtime is not None else units.NOTHING),
                Value(text=runtime.runner if runtime is not None else units.NOTHING),
                Value(text=listed(_set(m.protocol)) or units.NOTHING, marks="wordy"),
                Value(text=m.started_at, order=m.started_at),
            )
        )
    return _table("Measurements: runtime and protocol", columns, rows)


def _set(values: dict[str, Any]) -> dict[str, Any]:
    """Without what was left to the device."""
    return {key: value for key, value in values.items() if value not in (None, ())}


def states(section: ReportSection) -> list[Table]:
    """One table a device: what it said of itself in all of its measurements."""
    devices: dict[str, list[Measurement]] = {}
    for m in section.measurements:
        devices.setdefault(m.device.id, []).append(m)
    tables = []
    for device, taken in devices.items():
        facts: dict[str, list[str]] = {}
        for m in taken:
            known = {"link": m.device.link, "target": m.device.target, **flat(m.device.state)}
            known |= {f"version of {name}": text for name, text in m.versions.items()}
            for key, text in known.items():
                facts.setdefault(key, []).append(text)
        rows = [
            (Value(text=key), Value(text=_several(texts), marks="wordy"))
            for key, texts in facts.items()
        ]
        emulated = " (emulated)" if taken[0].device.emulated else ""
        caption = f"Device {device}{emulated}"
        tables.append(_table(caption, ("Fact", "Value"), rows))
    return tables


def commands(found: Sequence[Cell]) -> list[str]:
    """The command that takes each measurement again, run from the report's folder."""
    lines = []
    for cell in found:
        m = cell.measurement
        if m is None or cell.pack is None or cell.pack.artefact is None:
            continue
        words = ["edgepack", "measure", cell.pack.artefact.path, "--device", m.device.id]
        if m.runtime is not None:
            words += ["--runner", m.runtime.runner]
        lines.append(shlex.join(words))
    return list(dict.fromkeys(lines))


def notes(section: ReportSection, found: Sequence[Cell]) -> list[str]:
    """What packs and measurements had to say, and the layers that steps left out."""
    lines = []
    for pack in section.packs:
        lines += [f"{pack.recipe}: {note}" for note in pack.notes]
        if pack.check is not None and pack.check.why:
            lines.append(
                f"{pack.recipe}: {pack.check.status} in {pack.check.runtime}: {pack.check.why}"
            )
        lines += [
            f"{pack.recipe}: {step.name} left {skipped.layer} as it was: {skipped.why}"
            for step in pack.steps
            for skipped in step.skipped
        ]
    for cell in found:
        if cell.measurement is not None:
            lines += [f"{cell.recipe} on {cell.label}: {note}" for note in cell.measurement.notes]
    return list(dict.fromkeys(lines))


def flat(state: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested plain values as dotted keys and texts."""
    found: dict[str, str] = {}
    for key, value in state.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            found |= flat(value, f"{name}.")
        elif isinstance(value, list | tuple):
            found[name] = ", ".join(_word(item) for item in value)
        elif key.endswith("_bytes") and isinstance(value, int):
            found[name] = units.size(value)
        else:
            found[name] = _word(value)
    return found


def listed(values: dict[str, Any]) -> str:
    """``name value`` pairs on one line."""
    return ", ".join(f"{key} {text}" for key, text in flat(values).items())


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return units.digits(value, 4)
    return units.NOTHING if value is None or value == "" else str(value)


def _several(texts: Sequence[str]) -> str:
    """One value where all agree, else the few there are, else how many."""
    distinct = list(dict.fromkeys(texts))
    if len(distinct) <= 6:
        return " · ".join(distinct)
    return f"{distinct[0]} · {distinct[1]} · … {len(distinct)} different values"


def _table(caption: str, titles: Sequence[str], rows: Sequence[tuple[Value, ...]]) -> Table:
    columns = tuple(Column(title=title, numeric=False) for title in titles)
    return Table(caption=caption, columns=columns, rows=tuple(rows))
