"""What fails between this machine and a device: a table's rows, and what is to be seen of each.

Each row goes through the command line: a sound device of this machine, then the faulty one.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import paramiko
import pytest

from edgepack.cli.app import run
from edgepack.files import sha256
from edgepack.links.alone import JOB
from edgepack.records import Artefact, Pack
from edgepack.spec.device import Device, DeviceOptions
from edgepack.workflow import store
from tests.adbd import Phone
from tests.command import records, validate
from tests.sshd import Sshd
from tests.unit.graph import flatbuffers

SMALL, LARGE = 4, 500_000
"""The numbers in a model's input: the output of the large one takes a while to fetch."""
GONE_SECONDS = 10.0
TARGETS = {
    "quick": "runs = 5\nmin_seconds = 0\nmax_seconds = 1",
    "second": "runs = 100000000\nmin_seconds = 1\nmax_seconds = 1",
    "endless": "runs = 100000000\nmin_seconds = 25\nmax_seconds = 25",
}
"""Kinds of hardware that are measured for no time, for a second, and for longer than one waits."""


@dataclass
class Site:
    """One row's own folder, the devices that it may use, and its patches."""

    folder: Path
    server: Sshd
    patch: pytest.MonkeyPatch
    phone: Phone | None = None
    reached: threading.Event = field(default_factory=threading.Event)

    @property
    def workspace(self) -> Path:
        """The folder on the faulty device."""
        return self.folder / "device" / "work"

    def ssh(self, port: int | None = None, server: Sshd | None = None, **options: Any) -> Device:
        """The faulty device behind a port of its server, or of a proxy before it."""
        server = server or self.server
        device = server.device(**self._options(options, known_hosts=str(self._known(server, port))))
        user = device.address.partition("@")[0]
        return replace(
            device, id="faulty", target="quick", address=f"{user}@127.0.0.1:{port or server.port}"
        )

    def adb(self, phone: Phone, port: int | None = None, **options: Any) -> Device:
        """A phone as the faulty device."""
        device = phone.device(**self._options(options))
        address = f"127.0.0.1:{port or phone.port}"
        return replace(device, id="faulty", target="quick", address=address)

    def _options(self, given: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {
            "workspace": str(self.workspace), "connect_seconds": 5.0, "call_seconds": 10.0,
            "lock_seconds": 0.0, **more, **given,
        }  # fmt: skip

    def _known(self, server: Sshd, port: int | None) -> Path:
        path = self.folder / f"known-{port or server.port}"
        key = (server.folder / "host.pub").read_text()
        path.write_text(f"[127.0.0.1]:{port or server.port} {key}")
        return path

    def when_running(self, act: Callable[[], object]) -> None:
        """Do something once the runner on the device is at work."""

        def watch() -> None:
            while not self.reached.is_set():
                if list(self.workspace.glob("job-*/in-*")) and runners(self.workspace):
                    time.sleep(0.2)
                    act()
                    self.reached.set()
                time.sleep(0.01)

        threading.Thread(target=watch, daemon=True).start()


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row. ``error`` and ``hint`` are words of them, ``seconds`` the deadline.

    ``again``: the device is lost by what happens, and is measured and cleaned the next time.
    """

    name: str
    make: Callable[[Site], AbstractContextManager[Device]]
    seconds: float
    error: str = ""
    hint: str = ""
    status: str = "unreachable"
    code: int = 5
    runner: str = "litert-native"
    size: int = SMALL
    again: Callable[[Site], Device] | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command line gave."""

    code: int
    records: list[dict[str, Any]]
    stderr: str
    seconds: float


def packed(folder: Path, size: int) -> Path:
    """An output folder with a pack of one operator on ``size`` numbers."""
    content = flatbuffers.relu(size)
    artefact = Artefact(
        path="", sha256=sha256(content), size_bytes=len(content),
        gzip_bytes=len(gzip.compress(content)),
    )  # fmt: skip
    pack = Pack(
        model="relu", target="quick", recipe="float32", seed=0, versions={}, status="ok",
        artefact=artefact,
    )  # fmt: skip
    store.write_pack(store.pack_folder(folder, "relu", "quick", "float32"), pack, content, None)
    return folder


def described(folder: Path, device: Device) -> Path:
    """The device's description as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    options = {key: value for key, value in asdict(device.options).items() if value is not None}
    lines = [
        *(f"{key} = {json.dumps(getattr(device, key))}" for key in ("link", "target", "address")),
        "[options]",
        *(f"{key} = {json.dumps(value)}" for key, value in options.items()),
    ]
    path = folder / f"{device.id}.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def command(site: Site, devices: list[Device], runner: str, size: int = SMALL) -> list[str]:
    """The command line that measures a pack on devices."""
    targets = site.folder / "targets"
    targets.mkdir(exist_ok=True)
    for name, protocol in TARGETS.items():
        (targets / f"{name}.toml").write_text(
            f'name = "{name}"\nkind = "linux"\narch = "x86_64"\nruntimes = ["litert-2.3"]\n'
            f"[measure]\nwarmup_runs = 0\nwarmup_seconds = 0\ngolden_samples = 1\n{protocol}\n"
        )
    out = site.folder / "out"
    if not out.exists():
        packed(out, size)
    files = [described(site.folder / "devices", device) for device in devices]
    return [
        "measure", str(out), "--runner", runner, "--targets", str(targets), "--json",
        *(word for file in files for word in ("--device", str(file))),
    ]  # fmt: skip


def sound(site: Site) -> Device:
    """This machine, which does not fail."""
    options = DeviceOptions(workspace=str(site.folder / "here"), lock_seconds=0.0)
    return Device(id="sound", target="quick", link="local", options=options)


def measured(
    site: Site, devices: list[Device], capfd: pytest.CaptureFixture[str], runner: str, size: int
) -> Outcome:
    """What the command line gives, in this process."""
    argv = command(site, devices, runner, size)
    capfd.readouterr()
    began = time.monotonic()
    code = run(argv)
    seconds = time.monotonic() - began
    said = capfd.readouterr()
    found = records(said.out) if said.out else []
    return Outcome(code=code, records=found, stderr=said.err, seconds=seconds)


def is_kept(site: Site, outcome: Outcome) -> None:
    """The sound device's cell is printed and stored, whatever became of the other."""
    first = next(record for record in outcome.records if record["device"]["id"] == "sound")
    assert first["status"] == "ok", first["error"]
    (stored,) = (site.folder / "out" / "measurements" / "sound").rglob("*.json")
    kept = json.loads(stored.read_text())
    validate(kept)
    assert kept["samples_us"] == first["samples_us"]


def is_clean(site: Site, children: set[int]) -> None:
    """No process, file or lock is left, here or there."""
    deadline = time.monotonic() + GONE_SECONDS
    while (left := _left(site, children)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == []
    for place in (site.workspace, site.folder / "here"):
        names = {path.name for path in place.iterdir()} if place.is_dir() else set()
        assert names <= {"cache"}
        assert not list(place.glob("cache/*.part"))
    assert not [path for path in (site.folder / "tmp").iterdir() if not path.match("adb.*.log")]
    assert not [path for path in site.folder.rglob("*") if path.name.endswith(".part")]


def _left(site: Site, children: set[int]) -> list[str]:
    """Processes and connections that should have ended."""
    found = [f"{pid}: {_line(pid)}" for pid in runners(site.workspace)]
    found += [f"session {pid}: {_line(pid)}" for pid in site.server.children() if _line(pid)]
    found += [f"{pid}: {_line(pid)}" for pid in own_children() - children if _line(pid)]
    links = [thread for thread in threading.enumerate() if isinstance(thread, paramiko.Transport)]
    return found + [str(thread) for thread in links if thread.is_active()]


def runners(workspace: Path) -> list[int]:
    """What edgepack has started on a device whose processes are this machine's."""
    mark = f"{JOB}={sha256(str(workspace).encode())[:16]}".encode()
    found = []
    for place in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in place.read_bytes():
                found.append(int(place.parent.name))
    return found


def own_children() -> set[int]:
    """The processes that this one has started, those aside that outlive a call on purpose."""
    found = set()
    for place in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found |= {int(pid) for pid in place.read_text().split()}
    return {pid for pid in found if "fork.py" not in _line(pid)}


def _line(pid: int) -> str:
    """A process's command line; empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


@contextlib.contextmanager
def sited(folder: Path, server: Sshd, patch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A row's own place, where temporary files are seen."""
    (folder / "tmp").mkdir()
    (folder / "device").mkdir()
    patch.setenv("TMPDIR", str(folder / "tmp"))
    patch.setattr("tempfile.tempdir", None)
    patch.delenv("SSH_AUTH_SOCK", raising=False)
    site = Site(folder=folder, server=server, patch=patch)
    try:
        yield site
    finally:
        site.reached.set()


def holds(site: Site, case: Case, capfd: pytest.CaptureFixture[str]) -> None:
    """Make the fault; see that it is told, in time, and that nothing is lost or left."""
    children = own_children()
    with case.make(site) as device:
        outcome = measured(site, [sound(site), device], capfd, case.runner, case.size)
    assert "a bug in edgepack" not in outcome.stderr, outcome.stderr
    found = next(record for record in outcome.records if record["device"]["id"] == "faulty")
    assert (found["status"], outcome.code) == (case.status, case.code), found["error"]
    if case.error:
        assert case.error in found["error"]["message"]
        assert case.hint in found["error"]["hint"]
        assert found["error"]["hint"]
        assert found["error"]["code"] == case.code
    is_kept(site, outcome)
    assert outcome.seconds < case.seconds
    if case.again is not None:
        later = measured(site, [case.again(site)], capfd, "litert-native", case.size)
        assert [record["status"] for record in later.records] == ["ok"], later.records[0]["error"]
        assert later.seconds < case.seconds
    is_clean(site, children)
