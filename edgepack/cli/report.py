"""``edgepack report``."""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.cli import options
from edgepack.cli.outcome import MISSED, told_problems
from edgepack.cli.output import data_stdout


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "kind",
    type=click.Choice(["html", "md", "json"]),
    help="Default: by the ending of FILE, else html.",
)
@options.out_file
@options.folder_option("targets")
def report(
    folder: Path, kind: str | None, file: Path | None, targets_folders: tuple[Path, ...]
) -> int:
    """Write the report of what lies in DIR: to FILE, or md and json to stdout, html into DIR.

    Exits with 1 where a limit of a target is missed, with 2 where a record cannot be read.
    """
    with data_stdout() as write:
        from edgepack.workflow.report import build, missed, render, write_report

        chosen = kind or (file.suffix[1:] if file and file.suffix in (".md", ".json") else "html")
        built = build(folder, targets_folders)
        if file is None and chosen != "html":
            write(render(built, chosen))
        else:
            path = write_report(built, file or folder / "report.html", chosen)
            click.echo(f"wrote {path}", err=True)
        return told_problems(built) or MISSED * missed(built)
