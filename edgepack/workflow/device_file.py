"""A probed device as the TOML file that people keep: what it is, how to reach it, no secrets."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from edgepack.errors import SpecError
from edgepack.files import exists, write_text
from edgepack.spec.device import DeviceOptions
from edgepack.workflow.probe import NO_TARGET, UNKNOWN, Probed, board_of


def check_place(path: Path, *, force: bool) -> None:
    """Raises SpecError where a device file cannot stand at ``path``, or one is there already."""
    if path.suffix != ".toml" or path.stem.startswith("."):
        raise SpecError(f"{path}: a device file ends in .toml", "its name is the device's id")
    if not force and (exists(path) or path.is_symlink()):
        raise SpecError(f"{path} is there already", "choose another name, or --force to replace it")


def write(path: Path, found: Probed, *, force: bool) -> None:
    """Write the device file as a whole or not at all. Raises SpecError; see ``check_place``."""
    check_place(path, force=force)
    if found.device.target == UNKNOWN:
        raise SpecError(f"no device file for {found.device.id}: {found.why}", NO_TARGET)
    write_text(path, text(found))


def text(found: Probed) -> str:
    """The file's text; facts that are no keys of a device stand in comments."""
    device = found.device
    lines = [f"# {line}" for line in summary(found)]
    lines += [f"description = {_quoted(device.description or _described(found))}"]
    for key in ("target", "link", "address", "board"):
        if value := getattr(device, key):
            lines.append(f"{key} = {_quoted(value)}")
    if device.emulated:
        lines.append("emulated = true")
    if device.tags:
        lines.append(f"tags = [{', '.join(map(_quoted, device.tags))}]")
    options = [
        f"{field.name} = {_value(getattr(device.options, field.name))}"
        for field in fields(DeviceOptions)
        if getattr(device.options, field.name) != field.default
    ]
    return "\n".join([*lines, *(["", "[options]", *options] if options else [])]) + "\n"


def summary(found: Probed) -> list[str]:
    """What was found, a line each, for people."""
    facts = found.facts
    packages = [f"{name} {version}" for name, version in facts.get("packages", {}).items()]
    free = facts.get("workspace", {}).get("free_bytes")
    zones = facts.get("temperature_c", {}).items()
    rows = {
        "board": board_of(facts),
        "processor": _joined(
            found.arch,
            f"{facts['bits']}-bit userland" if "bits" in facts else "",
            f"{facts['cores']} cores" if "cores" in facts else "",
            facts.get("cpu", ""),
        ),
        "memory": _size(facts.get("memory_bytes")),
        "system": _joined(facts.get("os", ""), f"kernel {facts.get('kernel', '?')}", _libc(facts)),
        "python": _joined(facts.get("python", "none"), *packages),
        "clock": f"governor {facts['governor']}" if "governor" in facts else "",
        "thermal zones": _joined(*(f"{zone} {degrees:.0f} °C" for zone, degrees in zones)),
        "workspace": _joined(found.device.workspace, f"{_size(free)} free" if free else ""),
    }
    return [_printable(f"{name}: {value}") for name, value in rows.items() if value]


def _described(found: Probed) -> str:
    return board_of(found.facts) or f"{found.kind} on {found.arch}"


def _libc(facts: dict[str, Any]) -> str:
    if "libc" in facts:
        return str(facts["libc"])
    return "musl" if any("ld-musl" in loader for loader in facts.get("loaders", ())) else ""


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _size(count: int | None) -> str:
    return "" if count is None else f"{count / 2**20:,.0f} MiB"


def _printable(line: str) -> str:
    """A line that stays one, whatever a folder's name holds."""
    return "".join(character if character.isprintable() else " " for character in line)


def _quoted(value: str) -> str:
    """A TOML string: its escapes are JSON's, but for DEL, which JSON leaves as it is."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: str | float | None) -> str:
    return _quoted(value) if isinstance(value, str) else json.dumps(value)
