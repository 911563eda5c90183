"""The demo, as a newcomer runs it: trained, packed four ways, measured here, reported."""

from __future__ import annotations

import shutil

import pytest

from tests.command import edgepack, strict, validate
from tests.needs import needs

pytestmark = [pytest.mark.e2e, pytest.mark.tf, pytest.mark.slow]


def test_the_demo_ends_with_a_judged_report(tmp_path):
    done = edgepack("demo", "-o", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stderr
    report = strict((tmp_path / "demo" / "report.json").read_text())
    validate(report)
    (section,) = report["sections"]
    assert {p["recipe"] for p in section["packs"]} == {"float32", "float16", "dynamic", "int8"}
    assert all(v["met"] for v in section["verdicts"])
    assert len(section["verdicts"]) == 12
    for found in section["measurements"]:
        assert found["status"] == "ok"
        assert found["agreement"]["max_abs"] == 0
        assert found["quality"]["device"] > 0.95
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "plotly.js v" in page
    assert (tmp_path / "demo" / "report.md").read_text()


def test_the_demo_on_emulated_devices_marks_every_figure(tmp_path):
    for program in ("qemu-system-aarch64", "adb"):
        needs(shutil.which(program) is not None, f"install {program}")
    done = edgepack("demo", "--devices", "-o", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    report = strict((tmp_path / "demo" / "report.json").read_text())
    validate(report)
    (section,) = report["sections"]
    measured = {(m["device"]["id"], m["recipe"]): m for m in section["measurements"]}
    devices = ("emulated-aarch64", "emulated-phone")
    assert set(measured) == {(d, r) for d in devices for r in ("float32", "int8")}
    for found in measured.values():
        assert (found["status"], found["device"]["emulated"]) == ("ok", True)
        # another processor's exponentials end the softmax: a step of int8, the last bits of floats
        if found["recipe"] == "int8":
            assert found["agreement"]["max_abs_lsb"] <= 1
        else:
            assert found["agreement"]["max_abs"] <= 1e-6
    assert "emulated" in (tmp_path / "demo" / "report.md").read_text()


def test_two_demos_are_not_one(tmp_path):
    done = edgepack("demo", "--devices", "--compress", "-o", tmp_path / "demo")
    assert done.returncode == 2
    assert not (tmp_path / "demo").exists()
