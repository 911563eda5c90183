"""``edgepack run``."""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.cli import options
from edgepack.cli.output import data_stdout


@click.command()
@click.argument("plan", metavar="PLAN.toml", type=click.Path(path_type=Path))
@click.option("--resume", is_flag=True, help="Keep what is there and not stale.")
@click.option("--dry-run", is_flag=True, help="Check everything, say what would be done, stop.")
@options.trust_options
@options.folder_option("targets")
@options.out_folder(required=True)
def run(
    plan: Path,
    resume: bool,
    dry_run: bool,
    allow_code: bool,
    allow_lambda: bool,
    allow_overlap: bool,
    custom_objects: Path | None,
    targets_folders: tuple[Path, ...],
    out: Path,
) -> int:
    """Pack, measure and report what PLAN lists: a model, targets, recipes, devices."""
    with data_stdout() as write:
        from edgepack.cli.whole import show_whole
        from edgepack.workflow.job import Trust
        from edgepack.workflow.run import planned_job, planned_request, preview, read_plan

        trust = Trust(
            code=allow_code,
            lambdas=allow_lambda,
            overlap=allow_overlap,
            custom_objects=custom_objects,
        )
        read, base = read_plan(plan), plan.parent
        job = planned_job(read, base, out, trust=trust, folders=targets_folders, resume=resume)
        measuring = None
        if read.devices:
            measuring = planned_request(
                read, base, out, trust=trust, folders=targets_folders, resume=resume
            )
        if dry_run:
            write(preview(job, measuring))
            return 0
        return show_whole(write, job, measuring)
