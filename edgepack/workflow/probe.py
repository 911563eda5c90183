"""probe: reach a device, ask what it is, and describe it as a device file that can be measured on.

A POSIX shell is all that the device needs; where it has Python, that is asked too. It takes no
lock: a measurement that runs there is disturbed for about a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgepack.bench.hold import holding
from edgepack.errors import SpecError
from edgepack.events import step
from edgepack.links import ssh_connect
from edgepack.links.cache import free_bytes
from edgepack.links.link import checked, connect
from edgepack.runners.litert_native import arch_of
from edgepack.runners.litert_python import python_of
from edgepack.runtimes import state_lines
from edgepack.spec.device import Device
from edgepack.spec.library import find, load, paths
from edgepack.spec.target import Target
from edgepack.workflow.findings import Finding, findings
from edgepack.workflow.nearest import nearest

SCRIPT = Path(state_lines.SCRIPT).with_name("probe.sh")
PACKAGES = ("ai-edge-litert", "tflite-runtime", "numpy")
PROGRAM = """
import platform, sys
print("python\\t" + platform.python_version())
print("python_libc\\t" + " ".join(platform.libc_ver()).strip())
try:
    from importlib.metadata import version
except ImportError:
    sys.exit()
for name in sys.argv[1:]:
    try:
        print("package\\t" + name + " " + version(name))
    except Exception:
        pass
"""
"""Any Python 3 runs it."""
UNKNOWN = "unknown"
"""The target of a device that has not been probed yet, or that none fits."""
NO_TARGET = "describe one in a TOML of your own: see `edgepack targets show`"


@dataclass(frozen=True, kw_only=True)
class Probed:
    """A device as it was found: ``facts`` by name, ``why`` its target is the one it has."""

    device: Device
    facts: dict[str, Any]
    arch: str
    kind: str
    why: str
    findings: tuple[Finding, ...]


def named(name: str, folders: Sequence[Path] = ()) -> Device:
    """The device meant by an id, a path, ``user@host[:port]``, ``adb`` or ``adb:SERIAL``.

    ``adb`` alone is the one phone that is plugged in. Raises SpecError.
    """
    if name == "adb" or name.startswith("adb:"):
        return Device(id="phone", target=UNKNOWN, link="adb", address=name[4:])
    if "@" not in name or name.endswith(".toml"):
        return find(Device, name, folders)
    user, host, _ = ssh_connect.split(name)
    if ":" in (user or ""):
        raise SpecError(
            "a password has no place in an address",
            f"leave it out and set {ssh_connect.PASSWORD}, or better use a key",
        )
    return Device(id=host.partition(".")[0], target=UNKNOWN, link="ssh", address=name)


def probe(device: Device, targets_folders: Sequence[Path] = ()) -> Probed:
    """Ask a device what it is. Raises LinkError where it cannot be reached.

    Raises MeasureError where it does not answer as a POSIX shell would.
    """
    with step(f"probe {device.id}"), holding(device) as reached:
        facts = _facts(reached())
    arch = arch_of(facts, device.id)
    bionic = any(Path(loader).name.startswith("linker") for loader in facts.get("loaders", ()))
    kind = "android" if device.link == "adb" or (bionic and "android" in facts) else "linux"
    known = [
        load(Target, path, targets_folders) for path in paths(Target, targets_folders).values()
    ]
    target, why = nearest(known, kind=kind, arch=arch, board=board_of(facts))
    lacks = findings(
        facts, arch=arch, kind=kind, workspace=device.workspace, python=device.options.python
    )
    if target is None:
        lacks.insert(0, Finding(what="target", message=why, hint=NO_TARGET))
    return Probed(
        device=replace(device, target=target.id if target else UNKNOWN),
        facts=facts,
        arch=arch,
        kind=kind,
        why=why,
        findings=tuple(lacks),
    )


def board_of(facts: dict[str, Any]) -> str:
    """What a device's board calls itself; a phone's maker comes first, as in its target's name."""
    android = facts.get("android", {})
    board = str(facts.get("board") or "")
    if "model" in android and facts.get("board") == android["model"]:
        board = " ".join(filter(None, (android.get("manufacturer"), android["model"])))
    return board


def _facts(device: Device) -> dict[str, Any]:
    """What the device says, flat; what it does not say is left out."""
    seconds = device.options.call_seconds
    link = connect(device)
    try:
        argv = ["sh", "-c", state_lines.SCRIPT.read_text(), "sh"]
        said = checked(link, argv, timeout_s=seconds).stdout
        argv = ["sh", "-c", SCRIPT.read_text(), "sh", device.workspace, python_of(device)]
        more = checked(link, [*argv, PROGRAM, *PACKAGES], timeout_s=seconds).stdout
    finally:
        link.close()
    found = state_lines.parse(said)
    lines = state_lines.read(more)
    facts = {**found["device"], **found["now"], **_offered(lines)}
    facts.setdefault("libc", state_lines.one(lines, "python_libc"))
    facts["workspace"]["path"] = device.workspace
    return state_lines.known(facts)


def _offered(lines: state_lines.Lines) -> dict[str, Any]:
    """What probe.sh says."""
    packages = (line.partition(" ") for line in lines.get("package", ()))
    room = free_bytes(f" {state_lines.one(lines, 'room') or ''}")
    return {
        "python": state_lines.one(lines, "python"),
        "packages": {name: version for name, _, version in packages if name in PACKAGES},
        "workspace": state_lines.known(
            {"state": state_lines.one(lines, "workspace"), "free_bytes": room}
        ),
    }
