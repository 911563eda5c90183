"""``edgepack targets|recipes|devices|calibration list|show|check``, and the bench's commands."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edgepack.bench import boards
from edgepack.cli import bench
from edgepack.cli.app import tell
from edgepack.cli.options import as_json, folder_option
from edgepack.cli.probe import probe
from edgepack.errors import EdgepackError, SpecError
from edgepack.files import to_json
from edgepack.links import ssh_connect
from edgepack.passes import rules
from edgepack.runtimes import tables
from edgepack.spec import library
from edgepack.spec.data import Dataset
from edgepack.spec.device import Device
from edgepack.spec.recipe import Recipe
from edgepack.spec.target import Target


def _row(spec: Any) -> dict[str, Any]:
    """What ``list`` tells of a spec."""
    keys: tuple[str, ...]
    if isinstance(spec, Target):
        keys = ("id", "name", "kind", "arch", "runtimes", "default_recipe")
    elif isinstance(spec, Device):
        keys = ("id", "link", "target", "address", "emulated", "tags")
    elif isinstance(spec, Recipe):
        keys = ("id", "families", "scheme", "needs_train", "needs_labels", "needs_calibration")
    else:
        keys = ("id", "source", "path", "metric")
    return {key: getattr(spec, key) for key in (*keys, "description")}


def _group(name: str, kind: type, what: str) -> click.Group:
    """The list, show and check commands of one kind of spec."""

    folders = f"{name}_folders"

    @click.group(name=name, help=what)
    def group() -> None: ...

    @group.command(name="list", help=f"List the {name} that are known.")
    @folder_option(name)
    @as_json
    def list_(as_json: bool, **named: tuple[Path, ...]) -> None:
        rows, wrong = [], False
        for path in library.paths(kind, named[folders]).values():
            try:
                rows.append(_row(library.load(kind, path, named[folders])))
            except SpecError as error:
                tell(error)
                wrong = True
        if as_json:
            click.echo(to_json(rows), nl=False)
        else:
            width = max((len(row["id"]) for row in rows), default=0)
            for row in sorted(rows, key=lambda row: row["id"]):
                click.echo(f"{row['id']:<{width}}  {row.get('name') or row['description']}")
        if wrong:
            raise click.exceptions.Exit(SpecError.code)

    @group.command(name="show", help="Show one, by its id or path.")
    @click.argument("spec_id", metavar="ID")
    @folder_option(name)
    @as_json
    def show(spec_id: str, as_json: bool, **named: tuple[Path, ...]) -> None:
        spec = library.find(kind, spec_id, named[folders])
        if as_json:
            click.echo(to_json(asdict(spec)), nl=False)
            return
        for key, value in _flat(asdict(spec)):
            click.echo(f"{key} = {value}")

    @group.command(name="check", help="Check TOML files, or all that are known.")
    @click.argument("files", nargs=-1, type=click.Path(path_type=Path))
    @folder_option(name)
    @as_json
    def check(files: tuple[Path, ...], as_json: bool, **named: tuple[Path, ...]) -> None:
        chosen = files or tuple(library.paths(kind, named[folders]).values())
        targets = named.get("targets_folders", ())
        rows = [_checked(kind, path, named[folders], targets) for path in chosen]
        if as_json:
            click.echo(to_json(rows), nl=False)
        else:
            for row in rows:
                click.echo(f"{row['file']}: {'ok' if row['ok'] else 'wrong'}")
        if not all(row["ok"] for row in rows):
            raise click.exceptions.Exit(SpecError.code)

    if kind is Device:
        folder_option("targets")(check)
    return group


def _checked(
    kind: type, path: Path, folders: tuple[Path, ...], targets: tuple[Path, ...]
) -> dict[str, Any]:
    try:
        _complete(library.load(kind, path, folders), path, targets)
    except EdgepackError as error:
        tell(error)
        return {
            "file": str(path),
            "ok": False,
            "error": {"message": error.message, "hint": error.hint},
        }
    return {"file": str(path), "ok": True, "error": None}


def _complete(spec: Any, path: Path, targets: tuple[Path, ...]) -> None:
    """Raises SpecError where a spec's parts do not go together, or what it names is not known."""
    try:
        if isinstance(spec, Recipe):
            rules.check(spec)
        elif isinstance(spec, Device):
            library.find(Target, spec.target, targets)
            if spec.link == "ssh" and spec.address:
                ssh_connect.split(spec.address)
            if spec.board:
                boards.find(spec.board)
        elif isinstance(spec, Target):
            library.find(Recipe, spec.default_recipe)
            for runtime in spec.runtimes:
                tables.load(runtime)
    except SpecError as error:
        raise SpecError(f"{path}: {error.message}", error.hint) from error


def _flat(table: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in table.items():
        rows += (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
        )
    return rows


targets = _group("targets", Target, "Kinds of hardware: what they run, hold and must meet.")
recipes = _group("recipes", Recipe, "What is done to a model, and the scheme it is exported in.")
devices = _group("devices", Device, "Devices on the bench and how to reach them.")
for command in (probe, bench.up, bench.down, bench.status):
    devices.add_command(command)
calibration = _group("calibration", Dataset, "Data descriptions for calibration and evaluation.")
