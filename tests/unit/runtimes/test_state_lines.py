"""The script that a device without Python runs, on the shells that devices have, and its reader."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.runtimes import state
from edgepack.runtimes.state_lines import MOST_BYTES, MOST_VALUES, SCRIPT, parse, read
from tests.needs import needs


def run(shell: list[str], path: str = os.environ["PATH"]) -> bytes:
    done = subprocess.run(
        [*shell, str(SCRIPT)], capture_output=True, env={"PATH": path}, timeout=60, check=True
    )
    assert done.stderr == b""
    return done.stdout


@pytest.fixture(scope="module")
def applets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with busybox's tools and no others."""
    needs(shutil.which("busybox") is not None, "install the package busybox")
    folder = tmp_path_factory.mktemp("applets")
    subprocess.run(["busybox", "--install", "-s", str(folder)], check=True)
    return folder


def same_as_python(found: dict[str, dict[str, object]]) -> None:
    """The facts that the Python script gives of this machine are the shell script's too."""
    told = json.loads(json.dumps(state.about_device()))
    for name in set(told) - {"python", "libc", "userland"}:
        assert found["device"][name] == told[name]
    assert set(state.now()) == set(found["now"])


def test_it_says_what_the_python_script_says() -> None:
    found = parse(run(["sh"]))
    same_as_python(found)
    assert found["device"]["loaders"]
    assert "android" not in found["device"]


def test_busybox_is_enough(applets: Path) -> None:
    found = parse(run([str(applets / "sh")], str(applets)))
    same_as_python(found)
    assert found["device"]["bits"] == 64


def test_no_tools_at_all_still_give_lines(tmp_path: Path) -> None:
    sh = shutil.which("sh")
    assert sh is not None
    done = subprocess.run([sh, str(SCRIPT)], capture_output=True, env={"PATH": str(tmp_path)})
    assert done.returncode == 0
    assert set(parse(done.stdout)["device"]) <= {"loaders"}


def test_a_phone_tells_its_properties(tmp_path: Path) -> None:
    tools = {
        "getprop": 'case "$1" in\n'
        'ro.product.model) echo "Pixel 8";;\n'
        "ro.build.version.release) echo 15;;\n"
        "ro.product.cpu.abi) echo arm64-v8a;;\n"
        "ro.soc.model) printf 'Tensor\\tG3\\n';;\nesac",
        "dumpsys": 'echo "IsStatusOverride: false"; echo "Thermal Status: 3"; echo "Cached:"',
        "vcgencmd": "echo throttled=0x50005",
    }
    for name, body in tools.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    found = parse(run(["sh"], f"{tmp_path}:{os.environ['PATH']}"))
    assert found["device"]["android"] == {
        "model": "Pixel 8", "abi": "arm64-v8a", "release": "15", "soc": "TensorG3",
    }  # fmt: skip
    assert found["now"]["thermal_status"] == 3
    assert found["now"]["throttled"] == "0x50005"


def test_a_board_with_clocks_and_zones() -> None:
    lines = [
        "load\t0.10 0.20 0.30 1/99 123",
        "governor\tpowersave",
        "governor\tperformance",
        "governor\tpowersave",
        "clock_khz\t1500000",
        "clock_khz\tfast",
        "zone\tthermal_zone0 47236 cpu-thermal",
        "zone\tthermal_zone1 -500",
        "zone\tthermal_zone2 hot gpu",
        "memory_free\t1024 kB",
        "throttled\tthrottled=0x0",
    ]
    found = parse("\n".join(lines).encode())["now"]
    assert found == {
        "load": [0.1, 0.2, 0.3],
        "memory_free_bytes": 1 << 20,
        "governor": "performance/powersave",
        "clock_khz": [1500000],
        "temperature_c": {"thermal_zone0 cpu-thermal": 47.236, "thermal_zone1": -0.5},
        "throttled": "0x0",
    }


@pytest.mark.parametrize(
    ("lines", "bits"),
    [("bits\t32\nelf_class\t2", 32), ("elf_class\t1", 32), ("elf_class\t2", 64), ("bits\t7", None)],
)
def test_the_width_of_the_userland(lines: str, bits: int | None) -> None:
    assert parse(lines.encode())["device"].get("bits") == bits


def test_a_phone_without_os_release_names_its_android() -> None:
    lines = b"ro.build.version.release\t14\nro.soc.model\tSM8550\nro.product.model\tS23"
    found = parse(lines)["device"]
    assert (found["os"], found["cpu"], found["board"]) == ("Android 14", "SM8550", "S23")


KEYS = [line.split()[1] for line in SCRIPT.read_text().splitlines() if line.startswith("say ")]
VALUES = st.one_of(st.binary(max_size=80), st.from_regex(rb"-?[0-9.e+ kBnaif]{0,30}"))
LINES = st.tuples(st.sampled_from([*KEYS, "zone", "governor", "clock_khz", "loader"]), VALUES)


@given(st.one_of(st.binary(), st.lists(LINES)))
def test_any_bytes_are_read(content: bytes | list[tuple[str, bytes]]) -> None:
    if isinstance(content, list):
        content = b"\n".join(key.encode() + b"\t" + value for key, value in content)
    found = parse(content)
    assert set(found) == {"device", "now"}
    text = json.dumps(found, allow_nan=False, ensure_ascii=False)
    assert text.isprintable()


def test_what_a_device_says_is_bounded() -> None:
    assert read(b"key\t" + b"x" * 10_000) == {"key": ["x" * 200]}
    flood = b"governor\tx\n" * (2 * MOST_BYTES)
    assert len(read(flood)["governor"]) == MOST_VALUES
    assert read(b"\n" * MOST_BYTES + b"late\tvalue") == {}
