"""Pack, measure and report, shown to a person: what ``run`` and ``demo`` have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from edgepack.cli.outcome import finish, told_problems
from edgepack.cli.progress import shown
from edgepack.cli.tables import measurements_table, packs_table
from edgepack.records import Measurement, Pack
from edgepack.workflow.job import Job
from edgepack.workflow.measure import Request
from edgepack.workflow.report import build, missed
from edgepack.workflow.run import carry_out


def show_whole(write: Callable[[str], None], job: Job, measuring: Request | None) -> int:
    """Carry out a job and its measuring; print tables, name the report, return the exit code."""
    done: list[Pack | Measurement] = []
    with finish(write, False, done, _tables) as outcome, shown():
        for record in carry_out(job, measuring):
            done.append(record)
    click.echo(f"open {job.out / 'report.html'}", err=True)
    built = build(job.out)
    return told_problems(built) or outcome.code(missed=missed(built))


def _tables(records: Sequence[Pack | Measurement]) -> str:
    packs = [record for record in records if isinstance(record, Pack)]
    measurements = [record for record in records if isinstance(record, Measurement)]
    return packs_table(packs) + ("\n" + measurements_table(measurements) if measurements else "")
