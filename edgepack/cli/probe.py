"""``edgepack devices probe``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from edgepack.cli.options import as_json, folder_option, out_file
from edgepack.cli.output import data_stdout
from edgepack.files import to_json


@click.command()
@click.argument("device", metavar="ID|user@host")
@out_file
@click.option("--force", is_flag=True, help="Replace the file that is there.")
@folder_option("devices")
@folder_option("targets")
@as_json
def probe(
    device: str,
    file: Path | None,
    force: bool,
    devices_folders: tuple[Path, ...],
    targets_folders: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Ask a device what it is, what it lacks and how to mend that; -o writes its file.

    A new device is user@host[:port], adb (the only phone) or adb:SERIAL.
    """
    with data_stdout() as write:
        from edgepack.cli.progress import shown
        from edgepack.workflow import device_file
        from edgepack.workflow.probe import named
        from edgepack.workflow.probe import probe as probed

        if file is not None:
            device_file.check_place(file, force=force)
        with shown():
            found = probed(named(device, devices_folders), targets_folders)
        if file is not None:
            device_file.write(file, found, force=force)
        if as_json:
            write(
                to_json(
                    {
                        "id": file.stem if file else found.device.id,
                        "link": found.device.link,
                        "address": found.device.address,
                        "emulated": found.device.emulated,
                        "kind": found.kind,
                        "arch": found.arch,
                        "target": {"id": found.device.target, "why": found.why},
                        "facts": found.facts,
                        "findings": [asdict(finding) for finding in found.findings],
                        "file": str(file) if file else None,
                    }
                )
            )
            return
        lines = device_file.summary(found)
        lines.append(f"target: {found.device.target} ({found.why})")
        for finding in found.findings:
            lines += [f"to mend: {finding.message}", f"  {finding.hint}"]
        lines.append(f"written: {file}" if file else "-o NAME.toml writes a device file")
        write("\n".join(lines) + "\n")
