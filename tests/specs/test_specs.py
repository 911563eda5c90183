"""Every TOML that edgepack ships loads, has an id of its own, and names only what exists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from edgepack.spec.data import Dataset
from edgepack.spec.device import Device
from edgepack.spec.library import FOLDERS, load, shipped
from edgepack.spec.recipe import Recipe
from edgepack.spec.target import Target

ROOT = Path(__file__).parents[2]
RUNTIMES = {path.stem for path in (ROOT / "edgepack" / "runtimes").glob("*.toml")}
FILES = [(kind, path) for kind in FOLDERS for path in sorted(shipped(kind).glob("*.toml"))]
REQUIRED_TARGETS = {
    "android-arm64",
    "esp32-s3",
    "generic-linux-aarch64",
    "generic-linux-armv7",
    "generic-linux-x86_64",
    "nano33-ble",
    "nucleo-f446re",
    "rp2040",
    "rpi-zero2",
    "rpi3-32",
    "rpi4-64",
    "rpi5-64",
    "stm32f746g-disco",
    "stm32h743",
}


def stems(kind: type) -> set[str]:
    """The ids of what is shipped."""
    return {path.stem for path in shipped(kind).glob("*.toml")}


def named(items: list[tuple[type, Path]]) -> list[str]:
    """Test ids."""
    return [f"{kind.__name__}-{path.stem}" for kind, path in items]


@pytest.mark.parametrize("kind", [Target, Device, Recipe, Dataset])
def test_something_of_each_kind_is_shipped_from_this_checkout(kind):
    assert stems(kind)
    assert shipped(kind).is_relative_to(ROOT)


@pytest.mark.parametrize(("kind", "path"), FILES, ids=named(FILES))
def test_file_loads_under_its_own_name(kind, path):
    spec = load(kind, path)
    assert spec.id == path.stem
    assert re.fullmatch(r"[a-z0-9_]+(-[a-z0-9_]+)*", spec.id), "ids are kebab-case"


@pytest.mark.parametrize("kind", [Target, Device, Recipe, Dataset])
def test_names_that_people_read_are_not_shared(kind):
    names = [getattr(spec, "name", spec.id) for spec in (load(k, p) for k, p in FILES if k is kind)]
    assert len(set(names)) == len(names)


def test_every_required_target_is_there():
    assert stems(Target) >= REQUIRED_TARGETS
    phones = [load(Target, path) for kind, path in FILES if kind is Target]
    assert sum(phone.kind == "android" for phone in phones) >= 3
    cores = {target.core for target in phones if target.kind == "mcu"}
    assert cores >= {"Cortex-M0", "Cortex-M4", "Cortex-M7", "Cortex-M33", "Cortex-M55"}


@pytest.mark.parametrize("path", sorted(shipped(Target).glob("*.toml")), ids=lambda p: p.stem)
def test_target_names_only_what_exists(path):
    target = load(Target, path)
    assert set(target.runtimes) <= RUNTIMES
    assert target.default_recipe in stems(Recipe)
    assert len(set(target.runtimes)) == len(target.runtimes)


@pytest.mark.parametrize("path", sorted(shipped(Target).glob("*.toml")), ids=lambda p: p.stem)
def test_target_lists_runtimes_that_its_architecture_has(path):
    target = load(Target, path)
    if target.kind == "mcu":
        assert target.runtimes == ("tflm",)
        assert target.memory.ram_kib is not None
    elif target.arch == "armv7l":
        assert target.runtimes == ("tflite-runtime-2.14",), "no LiteRT wheel for 32-bit Arm"
    else:
        assert target.runtimes[0] == "litert-2.3"


@pytest.mark.parametrize("path", sorted(shipped(Device).glob("*.toml")), ids=lambda p: p.stem)
def test_device_is_of_a_target_that_exists_and_holds_no_secret(path):
    assert load(Device, path).target in stems(Target)
    assert not re.search(r"passw|passphrase|token|BEGIN .*KEY", path.read_text(), re.IGNORECASE)


def test_example_devices_are_marked_as_examples():
    examples = [load(Device, p) for p in shipped(Device).glob("example-*.toml")]
    assert examples
    assert all("example" in device.tags for device in examples)


@pytest.mark.parametrize("path", sorted(shipped(Dataset).glob("*.toml")), ids=lambda p: p.stem)
def test_data_descriptions_never_point_outside_of_the_repository(path):
    place = tomllib.loads(path.read_text()).get("path", "")
    assert not Path(place).is_absolute()
    assert ".." not in Path(place).parts
