"""The bench without booting: what is missing is told, and no foreign process is ended."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from edgepack.bench import apt, boards, image, machine
from edgepack.bench.hold import holding, passing
from edgepack.bench.image import Image
from edgepack.bench.machine import Running
from edgepack.errors import LinkError, SpecError
from edgepack.spec.device import Device

BOARD = boards.find("aarch64")
PHONE = Device(id="phone", target="android-arm64", link="adb", board="aarch64", emulated=True)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    machine.folder().mkdir(parents=True)


def record(pid: int, started: int) -> None:
    running = Running(
        board=BOARD.id, pid=pid, started=started, ssh_port=1, adb_port=2, image="/nowhere"
    )
    (machine.folder() / f"{BOARD.id}.json").write_text(json.dumps(asdict(running)))


def test_an_unknown_board_is_named() -> None:
    with pytest.raises(SpecError, match="'riscv'"):
        boards.find("riscv")


def test_without_an_emulator_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(LinkError, match="qemu-system-aarch64") as caught:
        machine.up(BOARD)
    assert "apt install" in caught.value.hint


def test_a_board_that_cannot_be_booted_fails_alike_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with holding(PHONE) as reached:
        with pytest.raises(LinkError) as first:
            reached()
        with pytest.raises(LinkError) as second:
            reached()
    assert first.value is second.value


def test_a_device_that_is_no_board_is_reached_as_it_is() -> None:
    device = Device(id="here", target="generic-linux-x86_64", link="local")
    with holding(device) as reached:
        assert reached() is device


def test_without_apt_the_machine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.shutil, "which", lambda name: None if name == "apt-get" else name)
    with pytest.raises(LinkError, match="apt-get") as caught:
        machine.up(BOARD)
    assert "Debian" in caught.value.hint
    assert list(image.cache().glob("*-*")) == list(image.cache().glob(".*-*")) == []


def test_a_mirror_that_is_not_there_is_told_and_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(apt.MIRROR, "http://127.0.0.1:9/debian")
    monkeypatch.setattr(machine.shutil, "which", lambda name: name)
    with pytest.raises(LinkError, match="cannot fetch Debian's packages for arm64") as caught:
        machine.up(BOARD)
    assert apt.MIRROR in caught.value.hint
    assert list(image.cache().glob("*-*")) == list(image.cache().glob(".*-*")) == []


def test_a_damaged_package_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.deb").write_bytes(b"no archive")
    with pytest.raises(LinkError, match=r"a\.deb is damaged"):
        list(image._members(tmp_path / "a.deb"))


def test_a_process_that_took_over_the_number_is_not_the_board() -> None:
    process = subprocess.Popen(["sleep", "60"])
    try:
        record(process.pid, 1)
        assert machine.status(BOARD) is None
        assert machine.down(BOARD) is False
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_a_board_is_ended_and_forgotten() -> None:
    process = subprocess.Popen(["sleep", "60"])
    try:
        started = machine._started(process.pid)
        assert started is not None
        record(process.pid, started)
        assert machine.status(BOARD) is not None
        assert machine.down(BOARD) is True
        assert process.wait(10) == -15
        assert machine.status(BOARD) is None
        assert not list(machine.folder().glob("*.json"))
    finally:
        process.kill()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"board": 1}', "\0"])
def test_a_damaged_record_is_no_board(text: str) -> None:
    (machine.folder() / f"{BOARD.id}.json").write_text(text)
    assert machine.status(BOARD) is None


def test_an_emulator_that_ends_at_once_is_told_by_its_console(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / BOARD.emulator
    program.write_text("#!/bin/sh\necho no such machine\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    made = image.Image(folder=tmp_path)
    with pytest.raises(LinkError, match="ended with code 3; its console says: no such machine"):
        machine._boot(BOARD, made)
    assert machine.status(BOARD) is None


def test_an_emulator_that_never_answers_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / BOARD.emulator
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(machine, "BOOT_SECONDS", 1.0)
    with pytest.raises(LinkError, match="does not answer"):
        machine._boot(BOARD, image.Image(folder=tmp_path))
    time.sleep(0.1)
    assert machine._started(int((tmp_path / "pid").read_text())) is None


def test_only_loopback_is_listened_on_and_the_board_reaches_nothing() -> None:
    for board in boards.BOARDS.values():
        words = machine.command(board, image.Image(folder=Path("/i")), 1, 2 if board.adb else None)
        network = next(word for word in words if word.startswith("user,"))
        assert "restrict=on" in network
        assert all(
            forward.startswith("tcp:127.0.0.1:") for forward in network.split("hostfwd=")[1:]
        )
        assert "max" not in words


def fake(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Image:
    """An emulator that is a script, and an image for it."""
    program = folder / BOARD.emulator
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    (folder / "hostkey.pub").write_text("ssh-ed25519 AAAA edgepack\n")
    made = Image(folder=folder)
    monkeypatch.setattr(machine, "image", lambda board: made)
    return made


def test_a_board_whose_booting_was_killed_is_ended_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path, monkeypatch, "echo $$ >> pids; exec sleep 60")
    monkeypatch.chdir(tmp_path)
    code = (
        "from pathlib import Path\n"
        "from edgepack.bench import boards, machine\nfrom edgepack.bench.image import Image\n"
        f"machine.image = lambda board: Image(folder=Path({str(tmp_path)!r}))\n"
        "machine.up(boards.find('aarch64'))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as booting:
        while not (machine.folder() / f"{BOARD.id}.json").exists():
            time.sleep(0.02)
        booting.kill()
    (left,) = (tmp_path / "pids").read_text().split()
    assert machine._started(int(left)) is not None
    assert machine.status(BOARD) is None  # it does not answer yet
    monkeypatch.setattr(machine, "_await", lambda *_: None)
    running, booted = machine.up(BOARD)
    try:
        assert booted
        assert running.pid != int(left)
        assert machine._started(int(left)) is None
    finally:
        machine.down(BOARD)
    assert machine._started(running.pid) is None


def test_an_interrupt_while_booting_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path, monkeypatch, "echo $$ >> pids; exec sleep 60")
    monkeypatch.chdir(tmp_path)

    def interrupted(*_: object) -> None:
        while not (tmp_path / "pids").exists():
            time.sleep(0.02)
        raise KeyboardInterrupt

    monkeypatch.setattr(machine, "_await", interrupted)
    with pytest.raises(KeyboardInterrupt), holding(PHONE) as reached:
        reached()
    assert machine._started(int((tmp_path / "pids").read_text())) is None
    assert not list(machine.folder().glob("*.json"))
    assert not passing(BOARD).exists()


def test_ports_that_were_taken_meanwhile_are_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fake(
        tmp_path, monkeypatch,
        f"echo x >> {tmp_path}/tries; echo 'qemu: Could not set up host forwarding rule'; exit 1",
    )  # fmt: skip
    with pytest.raises(LinkError, match="ports taken"):
        machine._booted(BOARD, made)
    assert (tmp_path / "tries").read_text() == "x\n" * machine.PORT_TRIES


def test_two_who_boot_a_board_get_the_same_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(machine, "_await", lambda *_: time.sleep(0.3))
    found: list[tuple[Running, bool]] = []
    threads = [threading.Thread(target=lambda: found.append(machine.up(BOARD))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    machine.down(BOARD)
    assert len({running.pid for running, _ in found}) == 1
    assert sum(booted for _, booted in found) == 1


def test_a_board_goes_on_while_another_process_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(machine, "_await", lambda *_: None)
    with holding(PHONE) as reached:
        reached()
        with (machine.folder() / f"{BOARD.id}.users").open("a") as other:
            fcntl.flock(other, fcntl.LOCK_SH)
            with holding(PHONE) as again:
                again()
            assert machine.status(BOARD) is not None
    assert machine.status(BOARD) is None


def test_what_a_killed_build_left_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    left = image.cache() / ".arm64-old-abc"
    left.mkdir(parents=True)
    (left / "initrd").write_bytes(b"half")
    monkeypatch.setenv(apt.MIRROR, "http://127.0.0.1:9/debian")
    monkeypatch.setattr(machine.shutil, "which", lambda name: name)
    with pytest.raises(LinkError):
        machine.up(BOARD)
    assert not left.exists()


def test_a_folder_that_cannot_be_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(LinkError, match="cannot use") as caught:
        machine.up(BOARD)
    assert "XDG_STATE_HOME" in caught.value.hint


def test_a_machine_whose_apt_has_no_mirror_of_debian_is_told_how_to_name_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "apt-get").write_text("#!/bin/sh\necho 'http://mirror.invalid/ubuntu Ubuntu'\n")
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(apt.MIRROR, raising=False)
    with pytest.raises(LinkError, match="no mirror of Debian") as caught:
        apt.mirror()
    assert apt.MIRROR in caught.value.hint
