"""``edgepack demo``."""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.cli import options
from edgepack.cli.output import data_stdout


@click.command()
@options.out_folder(default="build/demo", show_default=True)
@click.option("--compress", is_flag=True, help="By every family of techniques; takes minutes.")
def demo(out: Path, compress: bool) -> int:
    """Train a small CNN on scikit-learn's digits, pack it, measure it here, report it."""
    with data_stdout() as write:
        from edgepack.cli.progress import shown
        from edgepack.cli.whole import show_whole
        from edgepack.workflow.demo import COMPRESSIONS, RECIPES, demo_job, demo_request

        with shown():
            job = demo_job(out, COMPRESSIONS if compress else RECIPES)
        return show_whole(write, job, demo_request(out))
