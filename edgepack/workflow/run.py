"""A plan: one TOML that lists a model, targets, recipes and devices, carried out as a whole."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgepack.errors import EdgepackError
from edgepack.records import Measurement, Pack
from edgepack.runners.runner import place_of
from edgepack.spec.plan import Plan
from edgepack.spec.toml import parse, read_table
from edgepack.workflow import ask
from edgepack.workflow.job import Job, Trust, cells, open_sets
from edgepack.workflow.measure import Request, measure_all, request
from edgepack.workflow.pack import pack_all
from edgepack.workflow.report import build, write_report

log = logging.getLogger(__name__)
FORMATS = ("html", "md", "json")


def read_plan(path: Path) -> Plan:
    """The plan in a TOML file. Raises SpecError."""
    plan = parse(Plan, read_table(path), str(path))
    place_of(plan.runner)  # a misspelt one, also where there is no device yet
    return plan


def planned_job(
    plan: Plan, base: Path, out: Path, *, trust: Trust, folders: Sequence[Path], resume: bool
) -> Job:
    """The packing that a plan asks for; its paths are relative to ``base``."""
    return ask.job(
        base / plan.model,
        targets=[_named(base, name) for name in plan.targets],
        recipes=[_named(base, name) for name in plan.recipes],
        train=_named(base, plan.train) if plan.train else None,
        calibration=_named(base, plan.calibration) if plan.calibration else None,
        evaluation=_named(base, plan.evaluation) if plan.evaluation else None,
        out=out,
        seed=plan.seed,
        resume=resume,
        folders=folders,
        trust=trust,
        shapes=plan.shapes,
    )


def planned_request(
    plan: Plan, base: Path, out: Path, *, trust: Trust, folders: Sequence[Path], resume: bool
) -> Request:
    """The measuring that a plan asks for, of everything in ``out``."""
    return request(
        out,
        devices=[_named(base, name) for name in plan.devices],
        runner=plan.runner,
        evaluation=_named(base, plan.evaluation) if plan.evaluation else None,
        seed=plan.seed,
        allow_code=trust.code,
        targets_folders=folders,
        resume=resume,
    )


def carry_out(job: Job, measuring: Request | None) -> Iterator[Pack | Measurement]:
    """Pack, then measure, then write the report; the report also where a cell is cut short."""
    try:
        yield from pack_all(job)
        if measuring is not None:
            yield from measure_all(measuring)
    except BaseException:
        try:
            _report(job.out)
        except EdgepackError:  # what went wrong first is what is told
            log.debug("no report of what was done", exc_info=True)
        raise
    _report(job.out)


def _report(out: Path) -> None:
    built = build(out)
    for kind in FORMATS:
        write_report(built, out / f"report.{kind}", kind)


def preview(job: Job, measuring: Request | None) -> str:
    """What would be done, after every check that needs no work."""
    matrix = cells(job)
    open_sets(job, matrix)
    lines = [
        f"pack {job.model} for {cell.target.id} by {cell.recipe.id} in {cell.runtime.name}"
        if cell.refused is None
        else f"refuse {cell.recipe.id} for {cell.target.id}: {cell.refused.message}"
        for cell in matrix
    ]
    made = sum(cell.refused is None for cell in matrix)
    lines += [
        f"measure {made} models on {device.id} ({device.link})"
        for device in (measuring.devices if measuring else ())
    ]
    return "\n".join([*lines, f"write {job.out}/report.html, .md and .json"]) + "\n"


def _named(base: Path, name: str) -> str:
    """An id or a tag as it is, a path relative to the plan's own folder."""
    path = not name.startswith("tag:") and (name.endswith(".toml") or "/" in name)
    return str(base / name) if path else name
