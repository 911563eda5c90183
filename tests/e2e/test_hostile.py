"""What a device, a config or a model says reaches no shell, and no secret reaches a log."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgepack.cli.app import run
from edgepack.links.ssh_connect import PASSWORD
from edgepack.runtimes import building
from edgepack.spec.device import Device
from tests import faults
from tests.command import edgepack
from tests.faults import SMALL, Site, sited
from tests.native_program import can_build
from tests.sshd import Sshd, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NAMES = [
    "two words",
    "it's",
    '"x"',
    "$(touch owned)",
    "`touch owned`",
    "; touch owned;",
    "a\nb",
    "*",
]
SECRET = "correct-horse-battery"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    can_build(building.here())
    with serving(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture
def site(server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.chdir(tmp_path)
    with sited(tmp_path, server, monkeypatch) as made:
        yield made


@pytest.mark.parametrize("name", NAMES)
def test_a_workspace_of_any_name_is_used_and_run_by_nobody(
    name: str, site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    device = site.ssh(workspace=str(site.folder / "device" / name))
    outcome = faults.measured(site, [device], capfd, "litert-native", SMALL)
    assert outcome.code == 0, outcome.records
    assert [path.name for path in (site.folder / "device").iterdir()] == [name]
    assert [path.name for path in (site.folder / "device" / name).iterdir()] == ["cache"]
    assert not list(site.folder.rglob("owned"))


@pytest.mark.parametrize(
    "address",
    ["-oProxyCommand=touch owned", "x@-oProxyCommand=touch", "$(touch owned)", "`touch owned`",
     "a;touch owned", "a|b", "a b", "-F/x@host"],
)  # fmt: skip
def test_an_address_is_no_option_and_no_command(
    address: str, site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    (site.folder / ".ssh").mkdir()
    (site.folder / ".ssh" / "config").write_text('Match exec "echo %h"\n Port 1\n')
    site.patch.setenv("HOME", str(site.folder))
    code = run(faults.command(site, [replace(site.ssh(), address=address)], "litert-native"))
    assert code in (2, 5)
    assert not list(site.folder.rglob("owned"))
    assert "a bug in edgepack" not in capfd.readouterr().err


@pytest.mark.parametrize("address", ["-s", "--help", "-H:5555", "$(touch owned)", "a;b:5555"])
def test_a_serial_number_is_no_option_and_no_command(
    address: str, site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    device = Device(id="faulty", target="quick", link="adb", address=address)
    outcome = faults.measured(site, [device], capfd, "litert-native", SMALL)
    assert outcome.code == 5
    assert not list(site.folder.rglob("owned"))


def test_what_tools_on_a_device_answer_is_run_by_nobody(
    site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    tools = site.folder / "tools"
    tools.mkdir()
    for name in ("df", "uname", "getconf", "getprop", "nproc", "dpkg", "sha256sum"):
        (tools / name).write_text("#!/bin/sh\nprintf '%s\\n' '$(touch owned)`touch owned`;*'\n")
        (tools / name).chmod(0o755)
    lines = f'ForceCommand export PATH={tools}:/usr/bin:/bin; eval "$SSH_ORIGINAL_COMMAND"'
    with serving(site.folder / "odd", lines) as odd:
        outcome = faults.measured(site, [site.ssh(server=odd)], capfd, "litert-native", SMALL)
    assert outcome.code == 6  # its machine is none
    assert not list(site.folder.rglob("owned"))


@pytest.mark.parametrize("works", [True, False])
def test_no_secret_is_told(works: bool, server: Sshd, site: Site) -> None:
    key = site.folder / "locked"
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", SECRET, "-f", str(key)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    authorized = server.folder / "authorized_keys"
    before = authorized.read_text()
    if works:
        authorized.write_text(before + key.with_suffix(".pub").read_text())
    site.patch.setenv(PASSWORD, SECRET)
    try:
        device = site.ssh(key=str(key))
        done = edgepack("--debug", *faults.command(site, [device], "litert-native"))
    finally:
        authorized.write_text(before)
    assert done.returncode == (0 if works else 5), done.stderr
    private = [line for line in key.read_text().splitlines() if len(line) > 40]
    said = [done.stdout, done.stderr]
    for place in (site.folder / "out", site.workspace, server.folder / "log"):
        for path in [place, *place.rglob("*")] if place.exists() else []:
            with contextlib.suppress(IsADirectoryError):
                said.append(path.read_bytes().decode(errors="replace"))
    for text in said:
        assert SECRET not in text
        assert not any(line in text for line in private)
    assert json.loads(done.stdout)[0]["status"] == ("ok" if works else "unreachable")
