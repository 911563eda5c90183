"""A report: verdicts against limits, and what they were drawn from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from edgepack.records.debug import Debug
from edgepack.records.facts import Operator
from edgepack.records.measurement import Measurement
from edgepack.records.pack import Pack
from edgepack.records.shared import ErrorRecord, Record


@dataclass(frozen=True, kw_only=True)
class Verdict(Record):
    """One limit of a target against what was found. ``met`` is None where nothing was found."""

    limit: str
    target: str
    recipe: str
    device: str | None
    allowed: float
    found: float | None
    met: bool | None
    sentence: str


@dataclass(frozen=True, kw_only=True)
class ReportSection(Record):
    """All that was found for one model on one target; by recipe ``operators`` and ``debugs``."""

    model: str
    target: str
    target_name: str
    baseline: str | None
    packs: tuple[Pack, ...]
    measurements: tuple[Measurement, ...]
    operators: dict[str, tuple[Operator, ...]]
    verdicts: tuple[Verdict, ...]
    debugs: dict[str, Debug] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Report(Record):
    """Every section of one output folder.

    ``problems``: records that could not be read, and are missing here. ``cautions``: what to
    know before comparing rows.
    """

    title: str
    created_at: str
    versions: dict[str, str]
    sections: tuple[ReportSection, ...]
    command: str = ""
    problems: tuple[ErrorRecord, ...] = ()
    cautions: tuple[str, ...] = ()
    schema: Literal["edgepack.report/1"] = "edgepack.report/1"
