"""``edgepack pack``."""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.cli import options
from edgepack.cli.outcome import finish
from edgepack.cli.output import data_stdout
from edgepack.records import Pack


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--target", "targets", multiple=True, required=True, metavar="T", help="Id or path.")
@click.option("--recipe", "recipes", multiple=True, metavar="R", help="Default: the target's own.")
@click.option("--train", metavar="D", help="Data that steps learn from: id or path.")
@click.option("--calibration", metavar="D", help="Data whose ranges int8 is made for: id or path.")
@options.evaluation
@options.seed
@options.shapes
@click.option("--resume", is_flag=True, help="Keep what is there and not stale.")
@options.folder_option("targets")
@options.trust_options
@options.out_folder(required=True)
@options.as_json
def pack(
    model: Path,
    targets: tuple[str, ...],
    recipes: tuple[str, ...],
    train: str | None,
    calibration: str | None,
    evaluation: str | None,
    seed: int,
    shapes: dict[str, tuple[int, ...]],
    resume: bool,
    targets_folders: tuple[Path, ...],
    allow_code: bool,
    allow_lambda: bool,
    allow_overlap: bool,
    custom_objects: Path | None,
    out: Path,
    as_json: bool,
) -> int:
    """Make MODEL small and fast for each target, by each recipe, and check what came out.

    MODEL is a .keras or .h5 file, a SavedModel folder, or a float .tflite file.
    """
    with data_stdout() as write:
        from edgepack.cli.progress import shown
        from edgepack.cli.tables import packs_table
        from edgepack.workflow.ask import job
        from edgepack.workflow.job import Trust
        from edgepack.workflow.pack import pack_all
        from edgepack.workflow.report import missed_limits

        asked = job(
            model,
            targets=targets,
            recipes=recipes,
            train=train,
            calibration=calibration,
            evaluation=evaluation,
            out=out,
            seed=seed,
            shapes=shapes,
            resume=resume,
            folders=targets_folders,
            trust=Trust(
                code=allow_code,
                lambdas=allow_lambda,
                overlap=allow_overlap,
                custom_objects=custom_objects,
            ),
        )
        done: list[Pack] = []
        with finish(write, as_json, done, packs_table) as outcome, shown():
            for made in pack_all(asked):
                done.append(made)
        unfit = any(pack.fit is not None and not pack.fit.ok for pack in done)
        missed = missed_limits(asked.targets, done, ())
        for verdict in missed:
            click.echo(f"limit missed: {verdict.sentence}", err=True)
        return outcome.code(missed=unfit or bool(missed))
