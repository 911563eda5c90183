"""``edgepack inspect``."""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.cli import options
from edgepack.cli.outcome import MISSED
from edgepack.cli.output import data_stdout
from edgepack.files import to_json


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--target", metavar="T", help="Judge whether it fits: id or path.")
@options.folder_option("targets")
@options.as_json
def inspect(
    file: Path, target: str | None, targets_folders: tuple[Path, ...], as_json: bool
) -> int:
    """Say what FILE.tflite is: operators, cost, memory, types; and whether it fits a target."""
    with data_stdout() as write:
        from edgepack.cli.tables import facts_text
        from edgepack.graph.facts import facts
        from edgepack.records import to_dict
        from edgepack.spec.library import find
        from edgepack.spec.target import Target

        known = facts(file, find(Target, target, targets_folders) if target else None)
        write(to_json(to_dict(known)) if as_json else facts_text(known))
        return MISSED if known.fit is not None and not known.fit.ok else 0
