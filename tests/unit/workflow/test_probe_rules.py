"""What a probed device is nearest to, what it lacks, and the file that describes it."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import pytest

from edgepack.errors import SpecError
from edgepack.spec.device import Device, DeviceOptions
from edgepack.spec.library import find, load, paths
from edgepack.spec.target import Target
from edgepack.workflow import device_file
from edgepack.workflow.findings import findings
from edgepack.workflow.nearest import nearest
from edgepack.workflow.probe import Probed, board_of, named

SOUND = {
    "python": "3.11.2",
    "libc": "glibc 2.36",
    "loaders": ["/lib/ld-linux-aarch64.so.1"],
    "governor": "performance",
    "throttled": "0x0",
    "workspace": {"state": "ok", "free_bytes": 1 << 30},
}
FOUND = Probed(
    device=Device(id="my-pi", target="rpi4-64", link="ssh", address="pi@my-pi"),
    facts={**SOUND, "board": "Raspberry Pi 4 Model B Rev 1.4", "cores": 4, "bits": 64},
    arch="aarch64",
    kind="linux",
    why="",
    findings=(),
)


@pytest.mark.parametrize(
    ("kind", "arch", "board", "target"),
    [
        ("linux", "aarch64", "Raspberry Pi 4 Model B Rev 1.4", "rpi4-64"),
        ("linux", "aarch64", "Raspberry Pi 5 Model B Rev 1.0", "rpi5-64"),
        ("linux", "aarch64", "Raspberry Pi Zero 2 W Rev 1.0", "rpi-zero2"),
        ("linux", "armv7l", "Raspberry Pi 3 Model B Plus Rev 1.3", "rpi3-32"),
        ("linux", "armv7l", "TI AM335x BeagleBone Black", "beaglebone-black"),
        ("linux", "aarch64", "Raspberry Pi Compute Module 4 Rev 1.4", "generic-linux-aarch64"),
        ("linux", "aarch64", "", "generic-linux-aarch64"),
        ("linux", "x86_64", "", "generic-linux-x86_64"),
        ("android", "aarch64", "Google Pixel 8", "pixel-8"),
        ("android", "aarch64", "samsung SM-S911B", "android-arm64"),
    ],
)
def test_a_board_is_nearest_to_the_target_whose_words_it_holds(kind, arch, board, target):
    known = [load(Target, path) for path in paths(Target).values()]
    found, why = nearest(known, kind=kind, arch=arch, board=board)
    assert found is not None
    assert found.id == target
    assert why


def test_where_no_target_is_of_that_kind_none_is_nearest():
    assert nearest([find(Target, "rpi4-64")], kind="linux", arch="riscv64", board="")[0] is None


@pytest.mark.parametrize(
    ("changed", "what", "words"),
    [
        ({"python": None}, "python", "litert-native, which needs none"),
        ({"python": "3.7.3"}, "python", "older than 3.8"),
        ({"libc": "glibc 2.24"}, "glibc", "glibc 2.24 is older than 2.27"),
        ({"libc": None, "loaders": ["/lib/ld-musl-aarch64.so.1"]}, "musl", "musl"),
        ({"governor": "ondemand"}, "governor", "governor ondemand"),
        ({"governor": "ondemand/performance"}, "governor", "not fixed"),
        ({"throttled": "0x50005"}, "power", "0x50005"),
        ({"workspace": {"state": "ok", "free_bytes": 1 << 20}}, "room", "1 MB are free"),
        ({"workspace": {"state": "noexec"}}, "noexec", "noexec"),
        ({"workspace": {"state": "denied"}}, "workspace", "cannot be written"),
        ({"workspace": {"state": "foreign"}}, "workspace", "another user's"),
    ],
)
def test_each_lack_is_one_clear_line_with_a_cure(changed, what, words):
    facts = {**SOUND, **changed}
    (found,) = findings(facts, arch="aarch64", kind="linux", workspace="/tmp/w", python="python3")
    assert found.what == what
    assert words in f"{found.message}; {found.hint}"
    assert "\n" not in found.message + found.hint
    assert found.hint


def test_a_sound_device_lacks_nothing():
    for arch in ("aarch64", "x86_64"):
        assert not findings(SOUND, arch=arch, kind="linux", workspace="/w", python="python3")


def test_32_bit_arm_needs_a_numpy_of_its_own_and_has_no_native_runner():
    (found,) = findings(SOUND, arch="armv7l", kind="linux", workspace="/w", python="python3")
    assert found.what == "numpy"
    facts = {**SOUND, "python": None}
    (found,) = findings(facts, arch="armv7l", kind="linux", workspace="/w", python="python3")
    assert "native" not in found.hint


def test_a_phone_needs_no_python_and_an_unknown_arch_has_no_runtime():
    facts = {**SOUND, "python": None, "libc": None, "loaders": ["/system/bin/linker64"]}
    assert not findings(facts, arch="aarch64", kind="android", workspace="/w", python="python3")
    (found,) = findings(facts, arch="riscv64", kind="linux", workspace="/w", python="python3")
    assert found.what == "arch"


def test_the_maker_of_a_phone_is_part_of_its_boards_name():
    android = {"manufacturer": "Google", "model": "Pixel 8"}
    assert board_of({"board": "Pixel 8", "android": android}) == "Google Pixel 8"
    assert board_of({"board": "Raspberry Pi 5"}) == "Raspberry Pi 5"
    assert board_of({}) == ""


def test_names_of_devices_that_have_no_file_yet():
    new = named("pi@board.local:2222")
    assert (new.id, new.link, new.address) == ("board", "ssh", "pi@board.local:2222")
    assert named("adb:R5CT1234").address == "R5CT1234"
    assert (named("adb").link, named("adb").address) == ("adb", "")
    assert named("this-machine").link == "local"
    with pytest.raises(SpecError, match="a password has no place"):
        named("pi:secret@board")


def test_the_file_says_what_was_found_and_how_to_reach_it(tmp_path):
    path = tmp_path / "my-pi.toml"
    device_file.write(path, FOUND, force=False)
    assert "# board: Raspberry Pi 4 Model B Rev 1.4\n" in path.read_text()
    read = load(Device, path)
    assert (read.id, read.target, read.address) == ("my-pi", "rpi4-64", "pi@my-pi")
    assert read.options == DeviceOptions()
    with pytest.raises(SpecError, match="is there already"):
        device_file.write(path, FOUND, force=False)
    device_file.write(path, FOUND, force=True)
    for name in ("my-pi", ".toml", "..toml"):
        with pytest.raises(SpecError, match="ends in"):
            device_file.check_place(tmp_path / name, force=False)


def test_what_a_device_says_stays_inside_its_string_and_its_comment():
    hostile = 'x" \\ \x7f é\u2028\n]'
    options = DeviceOptions(workspace=hostile, connect_seconds=30)
    device = replace(FOUND.device, address=hostile, options=options, tags=(hostile,))
    table = tomllib.loads(device_file.text(replace(FOUND, device=device)))
    assert table["address"] == hostile
    assert table["tags"] == [hostile]
    assert table["options"] == {"workspace": hostile, "connect_seconds": 30}
