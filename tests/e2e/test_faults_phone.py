"""Everything that goes wrong with a phone, and with a board that has one, through the command."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgepack.bench import boards, hold, machine
from edgepack.links import adb_server
from edgepack.links.link import checked, connect
from edgepack.runtimes import building
from edgepack.spec.device import Device
from edgepack.spec.library import find
from tests import faults
from tests.adbd import Phone, servers
from tests.adbd import serving as serving_phone
from tests.faults import Case, Site, holds, sited
from tests.native_program import can_build
from tests.needs import needs
from tests.proxy import Proxy, forwarding
from tests.sshd import Sshd, free_port, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

Made = Callable[[Site], contextlib.AbstractContextManager[Device]]
LOST = "lost the connection to faulty"


def phone(
    fault: str = "", arrange: Callable[[Site, Phone], object] = lambda site, phone: None,
    target: str = "quick", **chosen: object,
) -> Made:  # fmt: skip
    """A phone's daemon with a fault, or to which something happens."""

    @contextlib.contextmanager
    def make(site: Site) -> Iterator[Device]:
        with serving_phone(site.folder / "phone", fault) as running:
            arrange(site, running)
            yield replace(site.adb(running, **chosen), target=target)

    return make


def proxied(arrange: Callable[[Site, Proxy], object], **chosen: object) -> Made:
    """A phone in a network that fails as it is arranged."""

    @contextlib.contextmanager
    def make(site: Site) -> Iterator[Device]:
        with (
            serving_phone(site.folder / "phone") as running,
            forwarding(running.port) as proxy,
        ):
            arrange(site, proxy)
            yield site.adb(running, proxy.port, **chosen)

    return make


@contextlib.contextmanager
def two(site: Site) -> Iterator[Device]:
    """Two phones at one server, and no word which of them is meant."""
    port, adb = adb_server.free_port(), adb_server.binary()
    environment = {**os.environ, adb_server.PORT: str(port), "ADB_MDNS": "0"}
    with (
        serving_phone(site.folder / "one") as first,
        serving_phone(site.folder / "two") as second,
    ):
        for words in (["start-server"], *(["connect", f"127.0.0.1:{p.port}"] for p in (first, second))):  # noqa: E501 # fmt: skip
            subprocess.run([adb, *words], env=environment, check=True, capture_output=True)
        site.patch.setenv(adb_server.PORT, str(port))
        yield replace(site.adb(first), address="")
        subprocess.run([adb, "kill-server"], env=environment, check=True, capture_output=True)


def unplugged(site: Site, running: Phone) -> None:
    site.when_running(lambda: os.killpg(running.process.pid, signal.SIGKILL))


def row(name: str, make: Made, seconds: float, error: str, hint: str) -> Case:
    return Case(name=name, make=make, seconds=seconds, error=error, hint=hint)


CASES = [
    row("refused", lambda site: contextlib.nullcontext(
        Device(id="faulty", target="quick", link="adb", address=f"127.0.0.1:{free_port()}")), 10,
        "nothing that speaks ADB answers", "is it on"),
    row("unauthorized", phone("unauthorized"), 15, "has not authorized this machine", "accept"),
    row("too-old", phone("no-shell-v2"), 10, "how a command ended", "Android 7"),
    row("cut-while-sending", phone("drop:1000000"), 15, LOST, "check the cable"),
    row("frozen-while-sending", phone("frozen:1000000", call_seconds=2.0), 20,
        "did not finish", "call_seconds"),
    row("half-open", proxied(lambda s, p: p.after("up", 1_000_000, lambda: p.lose("down")),
                             call_seconds=2.0), 20, "did not finish", "call_seconds"),
    row("unplugged-while-running", phone("", unplugged, "endless"), 15, LOST, "check the cable"),
    row("two-phones-and-no-serial", two, 10, "adb sees 2 phones", "serial number"),
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    can_build(building.here())
    with serving(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_fault_is_told_in_time_and_nothing_is_lost_or_left(
    case: Case,
    server: Sshd,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = servers()
    with sited(tmp_path, server, monkeypatch) as site:
        phones = replace(case, make=lambda chosen: _without_traces(chosen, case))
        holds(site, phones, capfd)
    assert servers() == before


@contextlib.contextmanager
def _without_traces(site: Site, case: Case) -> Iterator[Device]:
    """What a phone that is gone keeps in its storage is no trace on this machine."""
    with case.make(site) as device:
        yield device
    for pid in faults.runners(site.workspace):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(site.workspace, ignore_errors=True)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Device]]:
    """A 64-bit board of these tests' own, by SSH and as a phone: root is there to be had."""
    chosen = boards.find("aarch64")
    needs(shutil.which(chosen.emulator) is not None, "install the package qemu-system-arm")
    needs(shutil.which("adb") is not None, "install the package adb")
    can_build("aarch64")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        running, _ = machine.up(chosen)
        try:
            yield {
                link: replace(
                    hold.at(find(Device, name), running), id="faulty", target="quick", board="",
                    emulated=False,
                )
                for link, name in (("ssh", "emulated-aarch64"), ("adb", "emulated-phone"))
            }  # fmt: skip
        finally:
            machine.down(chosen)


def as_root(board: dict[str, Device], script: str) -> None:
    """Run a script on the board."""
    link = connect(board["adb"])
    try:
        checked(link, ["sh", "-c", script], timeout_s=30)
    finally:
        link.close()


def told(
    site: Site, device: Device, capfd: pytest.CaptureFixture[str], workspace: str
) -> dict[str, object]:
    """The faulty device's record, after a sound one's."""
    options = replace(device.options, workspace=workspace, lock_seconds=0.0)
    outcome = faults.measured(
        site, [faults.sound(site), replace(device, options=options)], capfd, "litert-native", 4
    )
    assert "a bug in edgepack" not in outcome.stderr, outcome.stderr
    assert len(outcome.records) == 2, outcome.stderr
    faults.is_kept(site, outcome)
    found: dict[str, object] = next(r for r in outcome.records if r["device"]["id"] == "faulty")
    return found


MOUNT = (
    "mkdir -p {0} && busybox mount -t tmpfs -o {1} none {0} && chmod 1777 {0} && "
    "busybox mount -o remount,{1} {0}"
)


@pytest.mark.parametrize(
    ("name", "how", "status", "words"),
    [
        ("full", "size=1m", "unreachable", "no room for"),
        ("noexec", "noexec", "failed", "does not run on faulty"),
        ("read-only", "ro", "unreachable", "cannot use the folder"),
    ],
)
def test_a_file_system_that_does_not_do(
    name: str, how: str, status: str, words: str, board: dict[str, Device], server: Sshd,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    script = MOUNT.format(f"/mnt/{name}", how)
    as_root(board, script.replace("-o ro none", "none"))
    with sited(tmp_path, server, monkeypatch) as site:
        found = told(site, board["ssh"], capfd, f"/mnt/{name}/work")
    assert found["status"] == status, found["error"]
    assert words in str(found["error"])
    assert "options.workspace" in str(found["error"])


def test_a_board_that_is_started_again_in_the_middle(
    board: dict[str, Device], server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The last test: the emulator ends where a board would start again."""

    def reset() -> None:
        time.sleep(3)
        with contextlib.suppress(Exception):
            as_root(board, "echo b > /proc/sysrq-trigger")

    with sited(tmp_path, server, monkeypatch) as site:
        began = time.monotonic()
        thread = threading.Thread(target=reset)
        thread.start()
        found = told(site, replace(board["ssh"], target="endless"), capfd, "/tmp/reset")
        thread.join()
    assert found["status"] == "unreachable", found["error"]
    assert LOST in str(found["error"])
    assert time.monotonic() - began < 25
