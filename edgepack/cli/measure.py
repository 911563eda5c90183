"""``edgepack measure``."""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.cli import options
from edgepack.cli.outcome import finish
from edgepack.cli.output import data_stdout
from edgepack.records import Measurement


@click.command()
@click.argument("artefact", metavar="FILE.tflite|DIR", type=click.Path(path_type=Path))
@click.option(
    "--device",
    "devices",
    multiple=True,
    required=True,
    metavar="ID",
    help="Or a path, or tag:NAME for all that have a tag.",
)
@click.option("--runner", metavar="NAME", help="Default: native on phones, else by Python.")
@options.evaluation
@click.option(
    "--inputs",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Golden inputs: an .npz with one array (samples first) for each input.",
)
@click.option("--threads", metavar="N,N", help="Counts to try; the fastest is the measurement.")
@click.option("--sustain", metavar="TIME", help="Go on for 90s, 10m or 1h: latency over time.")
@click.option(
    "--against",
    metavar="OTHER.tflite",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Compare in turns with another model on the same device.",
)
@click.option("--per-op", is_flag=True, help="Times of single operators, where the runner can.")
@options.seed
@click.option("--resume", is_flag=True, help="Keep what is there and not stale.")
@click.option("--allow-code", is_flag=True, help="Run Python named in data descriptions.")
@options.folder_option("devices")
@options.folder_option("targets")
@options.as_json
def measure(
    artefact: Path,
    devices: tuple[str, ...],
    runner: str | None,
    evaluation: str | None,
    inputs: Path | None,
    threads: str | None,
    sustain: str | None,
    against: Path | None,
    per_op: bool,
    seed: int,
    resume: bool,
    allow_code: bool,
    devices_folders: tuple[Path, ...],
    targets_folders: tuple[Path, ...],
    as_json: bool,
) -> int:
    """Run one model, or every pack of an output folder, on each device; devices run at once.

    Without a pack, inputs are seeded and smooth, the same on host and device.
    """
    with data_stdout() as write:
        from edgepack.cli.progress import shown
        from edgepack.cli.tables import measurements_table
        from edgepack.workflow.also import wanted
        from edgepack.workflow.measure import measure_all, request
        from edgepack.workflow.report import missed_limits, packed_targets

        asked = request(
            artefact,
            devices=devices,
            runner=runner,
            evaluation=evaluation,
            inputs=inputs,
            seed=seed,
            allow_code=allow_code,
            devices_folders=devices_folders,
            targets_folders=targets_folders,
            resume=resume,
            wanted=wanted(threads=threads, sustain=sustain, against=against, per_op=per_op),
        )
        done: list[Measurement] = []
        with finish(write, as_json, done, measurements_table) as outcome, shown():
            for measurement in measure_all(asked):
                done.append(measurement)
        packs = [stored.pack for stored in asked.packs()]
        targets = packed_targets(asked.out, packs, targets_folders)
        return outcome.code(missed=bool(missed_limits(targets, packs, done)))
