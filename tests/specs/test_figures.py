"""Every figure of a target has its source, in the file that states the figure."""

from __future__ import annotations

import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from edgepack.spec.library import load
from edgepack.spec.target import Target

FILES = sorted((Path(__file__).parents[2] / "targets").glob("*.toml"))
FIGURES = ("core", "cores", "clock_mhz")
MEMORY = ("flash_kib", "ram_kib")
BOARDS = {  # core, clock in MHz, flash and RAM in KiB, as their makers state them
    "nucleo-f446re": ("Cortex-M4", 180, 512, 128),
    "stm32f746g-disco": ("Cortex-M7", 216, 1024, 320),
    "stm32h743": ("Cortex-M7", 480, 2048, 512),
    "nano33-ble": ("Cortex-M4", 64, 1024, 256),
    "rp2040": ("Cortex-M0+", 133, 2048, 264),
    "nrf5340": ("Cortex-M33", 128, 1024, 512),
    "microbit": ("Cortex-M0", 16, 256, 16),
    "esp32-s3": ("Xtensa LX7", 240, None, 512),
    "rpi4-64": ("Cortex-A72", 1500, None, None),
    "rpi5-64": ("Cortex-A76", 2400, None, None),
}


def stated(table: dict) -> set[str]:
    """The figures that a file states."""
    return {key for key in FIGURES if key in table} | {
        key for key in MEMORY if key in table.get("memory", {})
    }


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_each_stated_figure_has_a_source_in_the_same_file_and_no_other_key_has(path):
    table = tomllib.loads(path.read_text())
    assert set(table.get("sources", {})) == stated(table)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_sources_are_https_pages(path):
    for url in load(Target, path).sources.values():
        parts = urlsplit(url)
        assert parts.scheme == "https"
        assert "." in parts.hostname
        assert " " not in url


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_extending_loses_no_source(path):
    target = load(Target, path)
    figures = {key for key in FIGURES if getattr(target, key) not in ("", None)}
    figures |= {key for key in MEMORY if getattr(target.memory, key) is not None}
    if "cores" not in target.sources:
        assert target.cores == 1, "nothing stated, so the default"
        figures.discard("cores")
    assert figures == set(target.sources)


@pytest.mark.parametrize("name", BOARDS)
def test_figures_of_boards_that_people_know(name):
    target = load(Target, FILES[0].with_name(f"{name}.toml"))
    memory = target.memory
    assert (target.core, target.clock_mhz, memory.flash_kib, memory.ram_kib) == BOARDS[name]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_architecture_suits_the_core(path):
    target = load(Target, path)
    suits = {
        "Cortex-M0": "armv6-m",
        "Cortex-M0+": "armv6-m",
        "Cortex-M4": "armv7e-m",
        "Cortex-M7": "armv7e-m",
        "Cortex-M33": "armv8-m",
        "Cortex-M55": "armv8.1-m",
        "Xtensa LX7": "xtensa",
    }
    if target.kind == "mcu":
        assert target.arch == suits[target.core]
    else:
        assert target.arch in ("x86_64", "aarch64", "armv7l")
