"""Ctrl-C while a device is connected to, sent to, measured on and fetched from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgepack.runtimes import building
from tests import faults
from tests.command import records
from tests.faults import LARGE, SMALL, sited
from tests.native_program import can_build
from tests.proxy import Proxy, forwarding
from tests.sshd import Sshd, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

END_SECONDS = 30.0
PHASES = {
    "connect": ("down", 0, SMALL),
    "handshake": ("down", 600, SMALL),
    "send": ("up", 1_000_000, SMALL),
    "fetch": ("down", 200_000, LARGE),
}
"""The bytes that go one way before the network stands still, and the model's size."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    can_build(building.here())
    with serving(tmp_path_factory.mktemp("sshd")) as running:
        yield running


def paused(proxy: Proxy, phase: str, reached: threading.Event) -> None:
    """Hold the network still in the middle of a phase."""
    way, count, _ = PHASES[phase]

    def hold() -> None:
        proxy.freeze()
        reached.set()

    proxy.after(way, count, hold)  # type: ignore[arg-type]


@pytest.mark.parametrize("phase", [*PHASES, "run"])
def test_an_interrupt_keeps_what_is_done_and_leaves_nothing(
    phase: str, server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    children = faults.own_children()
    size = PHASES[phase][2] if phase in PHASES else SMALL
    with sited(tmp_path, server, monkeypatch) as site, forwarding(server.port) as proxy:
        device = site.ssh(proxy.port, connect_seconds=20.0, call_seconds=20.0)
        if phase == "run":
            device = replace(device, target="endless")
            site.when_running(lambda: None)  # sets ``reached`` by itself
        else:
            paused(proxy, phase, site.reached)
        sound = replace(site.ssh(workspace=str(tmp_path / "here")), id="sound")
        argv = faults.command(site, [sound, device], "litert-native", size)
        with subprocess.Popen(
            [sys.executable, "-m", "edgepack", *argv], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        ) as process:  # fmt: skip
            assert site.reached.wait(60)
            while not list((tmp_path / "out").glob("measurements/sound/**/*.json")):
                assert process.poll() is None
                time.sleep(0.02)
            time.sleep(0.5)  # the cell is printed by whoever waits for it
            os.killpg(process.pid, signal.SIGINT)
            threading.Timer(0.3, proxy.thaw).start()
            out, err = process.communicate(timeout=END_SECONDS)
        assert process.returncode == 130, err
        assert "Traceback" not in err
        found = {record["device"]["id"]: record["status"] for record in records(out)}
        assert found["sound"] == "ok"
        assert found.get("faulty", "interrupted") == "interrupted"
        faults.is_clean(site, children)
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
