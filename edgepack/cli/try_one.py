"""``edgepack try``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepack.cli import options
from edgepack.cli.outcome import MISSED
from edgepack.cli.output import data_stdout
from edgepack.files import to_json

if TYPE_CHECKING:
    from edgepack.workflow.try_one import Tried


@click.command(name="try")
@click.argument("source", metavar="PACK|FILE.tflite", type=click.Path(path_type=Path))
@click.option(
    "--input",
    "given",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A picture, a .wav or a .npy of one sample.",
)
@click.option("--device", "device_id", required=True, metavar="ID", help="Or a path.")
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--runner", metavar="NAME", help="As of `measure`.")
@options.evaluation
@options.folder_option("devices")
@options.folder_option("targets")
@options.as_json
def try_one(
    source: Path,
    given: Path,
    device_id: str,
    top: int,
    runner: str | None,
    evaluation: str | None,
    devices_folders: tuple[Path, ...],
    targets_folders: tuple[Path, ...],
    as_json: bool,
) -> int:
    """Run one real input on this host and on a device; say what both answer and if they agree.

    The input goes through the preprocessing of the data that the pack was made with.
    """
    with data_stdout() as write:
        from edgepack.cli.progress import shown
        from edgepack.runners.runner import place_of
        from edgepack.spec.device import Device
        from edgepack.spec.library import find
        from edgepack.workflow.try_one import try_one as tried

        place_of(runner)
        device = find(Device, device_id, devices_folders)
        with shown():
            found = tried(
                source,
                given,
                device,
                top=top,
                evaluation=evaluation,
                runner=runner,
                targets_folders=targets_folders,
            )
        write(to_json(_plain(found)) if as_json else _text(found))
        return 0 if found.ok else MISSED


def _plain(found: Tried) -> dict[str, Any]:
    """The result for programs."""
    device = found.device
    return {
        "model": found.model,
        "recipe": found.recipe,
        "artefact_sha256": found.artefact_sha256,
        "input": found.input,
        "output": found.output,
        "device": {
            "id": device.id,
            "link": device.link,
            "target": device.target,
            "emulated": device.emulated,
        },
        "runtime": asdict(found.runtime) if found.runtime else None,
        "answers": {
            "host": [asdict(answer) for answer in found.host],
            "device": [asdict(answer) for answer in found.there],
        },
        "latency": {"runs": 1, "us": found.latency_us, "first_us": found.first_us},
        "agreement": {**asdict(found.agreement), "tolerance": found.tolerance, "ok": found.ok},
    }


def _text(found: Tried) -> str:
    from edgepack.cli.tables import as_text, new_table
    from edgepack.reporting.units import duration

    where = found.device.id + (" (emulated)" if found.device.emulated else "")
    table = new_table("#", "this host", "score", where, "score")
    for place, (one, other) in enumerate(zip(found.host, found.there, strict=True), 1):
        cells = [(a.label or str(a.index), f"{a.score:.4g}") for a in (one, other)]
        table.add_row(str(place), *cells[0], *cells[1])
    runner = found.runtime.runner if found.runtime else "?"
    lines = [found.input, as_text(table).rstrip()]
    if found.latency_us is not None:
        lines.append(
            f"one run by {runner}: {duration(found.latency_us)}; one run is no distribution, "
            "`edgepack measure` takes one"
        )
    apart = found.agreement.max_abs
    lines.append(
        f"{'they agree' if found.ok else 'they DISAGREE'}: outputs differ by at most "
        f"{apart if apart is not None else float('nan'):.3g}, tolerance {found.tolerance:.3g}"
    )
    return "\n".join(lines) + "\n"
