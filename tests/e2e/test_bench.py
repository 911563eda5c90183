"""The emulated bench: real boards, a real sshd and a real adbd, measured as a user would."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from edgepack.bench import boards, machine
from edgepack.bench.hold import holding
from edgepack.links.link import checked, connect
from edgepack.spec.device import Device
from edgepack.spec.library import find
from tests.command import edgepack, records
from tests.needs import needs

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@contextmanager
def booted(*names: str) -> Iterator[None]:
    """Boards that run for the length of the block; one that ran before goes on."""
    with ExitStack() as stack:
        for name in names:
            board = boards.find(name)
            needs(shutil.which(board.emulator) is not None, "install the package qemu-system-arm")
            _, new = machine.up(board)
            if new:
                stack.callback(machine.down, board)
        yield


@pytest.fixture(scope="module")
def aarch64() -> Iterator[None]:
    needs(shutil.which("adb") is not None, "install the package adb")
    with booted("aarch64"):
        yield


@pytest.fixture(scope="module")
def pack(reference_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ResNet8 in int8, packed for any 64-bit Arm Linux."""
    out = tmp_path_factory.mktemp("packed")
    data = {}
    for name in ("train_4660", "test_655"):
        data[name] = out / f"{name}.toml"
        data[name].write_text(
            f'source = "npz"\npath = "{reference_data}/sets/cifar10_{name}.npz"\n'
            'x = "x"\ny = "y"\ncount = 100\nseed = 1\n'
        )
    done = edgepack(
        "pack", reference_data / "models" / "mlperf_ic_resnet8.h5", "--recipe", "int8",
        "--target", "generic-linux-aarch64", "--calibration", data["train_4660"],
        "--evaluation", data["test_655"], "-o", out / "packs",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


def remains(device: Device) -> str:
    """What edgepack left in its folder on a device."""
    with holding(device) as reached:
        link = connect(reached())
        try:
            return checked(link, ["ls", device.workspace], timeout_s=60).stdout.decode()
        finally:
            link.close()


@pytest.mark.parametrize(
    ("device", "runner"),
    [
        ("emulated-aarch64", "litert-python"),
        ("emulated-aarch64", "litert-native"),
        ("emulated-phone", "litert-python"),
        ("emulated-phone", "litert-native"),
    ],
)
def test_a_pack_is_measured_on_a_64_bit_board(
    pack: Path, aarch64: None, device: str, runner: str
) -> None:
    done = edgepack(
        "measure", pack / "packs", "--device", device, "--runner", runner,
        "--evaluation", pack / "test_655.toml", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (found,) = records(done.stdout)
    assert (found["status"], found["error"]) == ("ok", None)
    assert found["device"]["emulated"] is True
    assert found["device"]["state"]["machine"] == "aarch64"
    assert found["runtime"]["runner"] == runner
    assert found["agreement"]["max_abs_lsb"] == 0
    assert found["agreement"]["first_divergence"] is None
    assert found["quality"]["samples"] == 100
    assert found["quality"]["device"] == found["quality"]["host"]
    assert found["latency_us"]["n"] == len(found["samples_us"]) >= 100
    assert found["memory"]["peak_rss_bytes"] > found["memory"]["model_bytes"] > 0
    assert remains(find(Device, device)).split() == ["cache"]


def test_a_32_bit_board_measures_by_tflite_runtime(reference_data: Path) -> None:
    model = reference_data / "models" / "mlperf_ic_int8.tflite"
    with booted("armv7"):
        done = edgepack("measure", model, "--device", "emulated-armv7", "--json")
        assert done.returncode == 0, done.stderr
        assert remains(find(Device, "emulated-armv7")).split() == ["cache"]
    (found,) = records(done.stdout)
    assert (found["status"], found["error"]) == ("ok", None)
    assert found["device"]["state"]["machine"] == "armv7l"
    assert found["device"]["state"]["bits"] == 32
    assert found["runtime"]["runner"] == "tflite-runtime-python"
    assert found["agreement"]["top1_match"] == 1.0
    # its kernels for 32 bits round otherwise than LiteRT's on the host: 18 steps were measured
    assert found["agreement"]["max_abs_lsb"] <= 18


def test_a_board_that_was_down_is_booted_and_ended_again(reference_data: Path) -> None:
    board = boards.find("aarch64-icount")
    needs(shutil.which(board.emulator) is not None, "install the package qemu-system-arm")
    model = reference_data / "models" / "mlperf_ic_int8.tflite"
    assert machine.status(board) is None
    done = edgepack(
        "measure", model, "--device", "emulated-aarch64-icount", "--runner", "litert-native",
        "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert machine.status(board) is None
    (found,) = records(done.stdout)
    assert found["status"] == "ok"
    assert found["device"]["emulated"] is True


def test_a_board_comes_up_is_told_of_and_goes_down() -> None:
    name = "emulated-aarch64-icount"
    needs(shutil.which("qemu-system-aarch64") is not None, "install the package qemu-system-arm")
    try:
        up = edgepack("devices", "up", name, "--json")
        assert up.returncode == 0, up.stderr
        told = json.loads(up.stdout)
        assert (told["up"], told["id"]) == (True, name)
        again = json.loads(edgepack("devices", "up", name, "--json").stdout)
        assert again["pid"] == told["pid"]
        states = json.loads(edgepack("devices", "status", "--json").stdout)
        assert {row["id"]: row["up"] for row in states}[name] is True
    finally:
        down = edgepack("devices", "down", name, "--json")
    assert json.loads(down.stdout) == {"id": name, "board": "aarch64-icount", "up": False}
    assert machine.status(boards.find("aarch64-icount")) is None


def test_a_device_that_is_no_board_is_not_booted() -> None:
    for what in ("up", "down", "status"):
        done = edgepack("devices", what, "this-machine")
        assert done.returncode == 2
        assert "is no emulated device" in done.stderr
