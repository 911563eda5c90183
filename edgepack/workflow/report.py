"""report: what lies in an output folder → one judged Report → html, md or json."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

from edgepack.errors import EdgepackError, ModelError, SpecError
from edgepack.files import write_text
from edgepack.graph.facts import facts
from edgepack.records import Debug, ErrorRecord, Measurement, Operator, Pack, Report, Verdict
from edgepack.reporting.collect import build as collected
from edgepack.reporting.document import to_json
from edgepack.reporting.judge import judge
from edgepack.reporting.markdown import to_markdown
from edgepack.reporting.page import to_html
from edgepack.spec.target import Target
from edgepack.workflow.keys import versions
from edgepack.workflow.mixed import mixed
from edgepack.workflow.store import (
    StoredPack,
    find_target,
    knows_target,
    read_debug,
    read_measurements,
    read_packs,
)

log = logging.getLogger(__name__)
RENDERERS = {"html": to_html, "md": to_markdown, "json": to_json}


def build(folder: Path, folders: Sequence[Path] = ()) -> Report:
    """The report of an output folder. Raises SpecError where there is nothing to report."""
    stored, spoiled = read_packs(folder)
    packs = [one.pack for one in stored]
    measurements, unread = read_measurements(folder)
    problems: list[EdgepackError] = [*spoiled, *unread]
    if problems and not packs and not measurements:
        raise problems[0]
    if not packs and not measurements:
        raise SpecError(
            f"{folder}: nothing to report",
            f"first `edgepack pack … -o {folder}`, then `edgepack measure {folder} --device …`",
        )
    targets = _targets(folder, packs, folders, problems)
    operators, debugs = _operators(packs, problems), _debugs(stored, problems)
    return collected(
        packs,
        measurements,
        operators,
        targets,
        debugs=debugs,
        problems=[ErrorRecord.of(problem) for problem in problems],
        cautions=mixed(packs),
        title=" · ".join(dict.fromkeys(pack.model for pack in packs)) or "edgepack report",
        versions=versions(),
        command=shlex.join(["edgepack", "report", str(folder)]),
    )


def render(report: Report, kind: str) -> str:
    """The report as ``html``, ``md`` or ``json``."""
    return RENDERERS[kind](report)


def write_report(report: Report, path: Path, kind: str) -> Path:
    """Write the report to ``path`` as a whole or not at all."""
    write_text(path, render(report, kind))
    return path


def missed(report: Report) -> bool:
    """Whether a limit of a target is missed, or a model does not fit."""
    unfit = any(
        pack.fit is not None and not pack.fit.ok
        for section in report.sections
        for pack in section.packs
    )
    return unfit or any(v.met is False for section in report.sections for v in section.verdicts)


def missed_limits(
    targets: Sequence[Target], packs: Sequence[Pack], measurements: Sequence[Measurement]
) -> list[Verdict]:
    """The limits that these packs and measurements miss.

    With measurements only what was found on a device counts, each of its pack's own target.
    """
    return [
        verdict
        for target in targets
        for verdict in judge(target, [p for p in packs if p.target == target.id], measurements)
        if verdict.met is False and (verdict.device is not None or not measurements)
    ]


def packed_targets(folder: Path, packs: Sequence[Pack], folders: Sequence[Path]) -> list[Target]:
    """The specs of the packs' targets. Raises SpecError for one that is there and wrong."""
    problems: list[EdgepackError] = []
    found = _targets(folder, packs, folders, problems)
    if problems:
        raise problems[0]
    return found


def _targets(
    folder: Path, packs: Sequence[Pack], folders: Sequence[Path], problems: list[EdgepackError]
) -> list[Target]:
    """The specs of the packs' targets; a target that is no longer known is not judged."""
    found = []
    for name in dict.fromkeys(pack.target for pack in packs):
        if not knows_target(folder, name, folders):
            log.warning("the target %s is not known here: its limits are not judged", name)
            continue
        try:
            found.append(find_target(folder, name, folders))
        except SpecError as error:
            problems.append(error)
    return found


def _operators(
    packs: Sequence[Pack], problems: list[EdgepackError]
) -> dict[str, tuple[Operator, ...]]:
    """Each artefact's per-layer table by its SHA-256; none for a file that is gone."""
    tables = {}
    for pack in packs:
        if pack.artefact is None:
            continue
        if not Path(pack.artefact.path).is_file():
            log.warning("no per-layer table: %s is not there", pack.artefact.path)
            continue
        try:
            known = facts(Path(pack.artefact.path))
            if known.sha256 != pack.artefact.sha256:
                raise ModelError(
                    f"{pack.artefact.path}: is not the file that its pack.json names",
                    "pack it again",
                )
            tables[known.sha256] = known.operators
        except EdgepackError as error:
            problems.append(error)
    return tables


def _debugs(stored: Sequence[StoredPack], problems: list[EdgepackError]) -> dict[str, Debug]:
    """What ``debug`` found of each artefact by its SHA-256; nothing where that is out of date."""
    found = {}
    for one in stored:
        try:
            if (known := read_debug(one)) is not None:
                found[known.sha256] = known
        except SpecError as error:
            problems.append(error)
    return found
