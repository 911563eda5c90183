"""``edgepack debug``."""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.cli import options
from edgepack.cli.outcome import MISSED
from edgepack.cli.output import data_stdout
from edgepack.files import to_json


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--calibration", required=True, metavar="D", help="Data to run both on: id or path.")
@options.evaluation
@click.option("--rescue", is_flag=True, help="Find the mixed scheme that meets --limit.")
@click.option("--limit", metavar="NAME=VALUE", help="accuracy=0.5pt, accuracy=0.87, mse=0.02.")
@click.option("--target", metavar="T", help="What FILE is for: id or path. Default: its pack's.")
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="At most so many of the calibration samples.",
)
@options.shapes
@options.folder_option("targets")
@options.trust_options
@click.option(
    "-o",
    "--output",
    "out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where a rescued file and its recipe go.",
)
@options.as_json
def debug(
    model: Path,
    file: Path,
    calibration: str,
    evaluation: str | None,
    rescue: bool,
    limit: str | None,
    target: str | None,
    samples: int,
    shapes: dict[str, tuple[int, ...]],
    targets_folders: tuple[Path, ...],
    allow_code: bool,
    allow_lambda: bool,
    allow_overlap: bool,
    custom_objects: Path | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Say where FILE.tflite, made from MODEL, loses accuracy, layer by layer, and what may help.

    With --rescue, find the layers to keep wider so that --limit holds on the evaluation data;
    exit code 1 where none do.
    """
    if rescue and (limit is None or evaluation is None):
        raise click.UsageError("--rescue needs --limit and --evaluation")
    if not rescue and (limit is not None or out is not None):
        raise click.UsageError("--limit and -o need --rescue")
    with data_stdout() as write:
        from edgepack.cli.diagnosis import debug_text
        from edgepack.cli.progress import shown
        from edgepack.records import to_dict
        from edgepack.spec.data import Dataset
        from edgepack.spec.library import find
        from edgepack.spec.target import Target
        from edgepack.workflow.debug import Question, diagnose
        from edgepack.workflow.job import Trust
        from edgepack.workflow.limit import limit as parsed

        asked = Question(
            model=model,
            file=file,
            calibration=find(Dataset, calibration),
            evaluation=find(Dataset, evaluation) if evaluation else None,
            limit=parsed(limit) if limit else None,
            target=find(Target, target, targets_folders) if target else None,
            out=out,
            samples=samples,
            shapes=shapes,
            trust=Trust(
                code=allow_code,
                lambdas=allow_lambda,
                overlap=allow_overlap,
                custom_objects=custom_objects,
            ),
        )
        with shown():
            found = diagnose(asked)
        write(to_json(to_dict(found)) if as_json else debug_text(found))
        return MISSED if found.rescued is not None and not found.rescued.met else 0
