"""``edgepack demo``."""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.cli import options
from edgepack.cli.output import data_stdout
from edgepack.errors import SpecError


@click.command()
@options.out_folder(default="build/demo", show_default=True)
@click.option("--compress", is_flag=True, help="By every family of techniques; takes minutes.")
@click.option("--devices", is_flag=True, help="On an emulated board and phone, which it boots.")
def demo(out: Path, compress: bool, devices: bool) -> int:
    """Train a small CNN on scikit-learn's digits, pack it, measure it here, report it."""
    with data_stdout() as write:
        from edgepack.cli.progress import shown
        from edgepack.cli.whole import show_whole
        from edgepack.workflow import demo as demos

        if compress and devices:
            raise SpecError("--compress and --devices are two demos", "choose one")
        with shown():
            if devices:
                job = demos.devices_job(out)
            else:
                job = demos.demo_job(out, demos.COMPRESSIONS if compress else demos.RECIPES)
        asked = demos.devices_request(out) if devices else demos.demo_request(out)
        return show_whole(write, job, asked)
