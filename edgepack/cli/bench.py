"""``edgepack devices up|down|status``: the emulated bench."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgepack.bench import machine
from edgepack.bench.boards import Board, find
from edgepack.bench.hold import at, passing
from edgepack.cli.options import as_json, folder_option
from edgepack.cli.progress import shown
from edgepack.errors import SpecError
from edgepack.files import to_json
from edgepack.spec import library
from edgepack.spec.device import Device

device = click.argument("device_id", metavar="ID")


@click.command()
@device
@folder_option("devices")
@as_json
def up(device_id: str, devices_folders: tuple[Path, ...], as_json: bool) -> None:
    """Boot an emulated device. It stays until `devices down`."""
    spec, board = _emulated(device_id, devices_folders)
    with shown():
        running, _ = machine.up(board)
    passing(board).unlink(missing_ok=True)
    _say(_row(spec, running), as_json)


@click.command()
@device
@folder_option("devices")
@as_json
def down(device_id: str, devices_folders: tuple[Path, ...], as_json: bool) -> None:
    """End an emulated device."""
    spec, board = _emulated(device_id, devices_folders)
    machine.down(board)
    passing(board).unlink(missing_ok=True)
    _say(_row(spec, None), as_json)


@click.command()
@click.argument("device_id", metavar="[ID]", required=False)
@folder_option("devices")
@as_json
def status(device_id: str | None, devices_folders: tuple[Path, ...], as_json: bool) -> None:
    """Say which emulated devices run, and how to reach them by hand."""
    if device_id is not None:
        found = [_emulated(device_id, devices_folders)]
    else:
        specs = (
            library.load(Device, path, devices_folders)
            for path in library.paths(Device, devices_folders).values()
        )
        found = [(spec, find(spec.board)) for spec in specs if spec.board]
    rows = [_row(spec, machine.status(board)) for spec, board in found]
    if device_id is not None:
        _say(rows[0], as_json)
    elif as_json:
        click.echo(to_json(rows), nl=False)
    else:
        for row in rows:
            _say(row, as_json)


def _emulated(name: str, folders: tuple[Path, ...]) -> tuple[Device, Board]:
    """A device and its board. Raises SpecError where the device is no emulated one."""
    spec = library.find(Device, name, folders)
    if not spec.board:
        raise SpecError(f"{spec.id} is no emulated device: it names no board", "switch it yourself")
    return spec, find(spec.board)


def _row(spec: Device, running: machine.Running | None) -> dict[str, Any]:
    """What is told of a device; ``reach`` is a command line for people."""
    if running is None:
        return {"id": spec.id, "board": spec.board, "up": False}
    there = at(spec, running)
    if spec.link == "adb":
        reach = f"adb connect {there.address}"
    else:
        user, _, port = there.address.rpartition(":")
        options = f"-i {there.options.key} -o UserKnownHostsFile={there.options.known_hosts}"
        reach = f"ssh {options} -p {port} {user}"
    return {
        "id": spec.id, "board": spec.board, "up": True, "address": there.address,
        "pid": running.pid, "reach": reach,
    }  # fmt: skip


def _say(row: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(to_json(row), nl=False)
    elif row["up"]:
        click.echo(f"{row['id']} is up at {row['address']}: {row['reach']}")
    else:
        click.echo(f"{row['id']} is down")
