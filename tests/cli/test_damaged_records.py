"""A record that was damaged is told, costs the exit code, and stops nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgepack.cli.app import run
from tests.command import records, strict, validate

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory) -> Path:
    """Two packs of the tiny model, measured on this machine."""
    out = tmp_path_factory.mktemp("damaged") / "out"
    argv = ["pack", str(tiny.model), "--target", "generic-linux-x86_64", "-o", str(out)]
    assert run([*argv, "--recipe", "float32", "--recipe", "float16"]) == 0
    assert run(["measure", str(out), "--device", "this-machine"]) == 0
    return out


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    """The same, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "out"))


def only(folder: Path, pattern: str) -> Path:
    """The one path that fits."""
    (path,) = folder.glob(pattern)
    return path


@pytest.mark.parametrize(
    "record", ["packs/*/*/float16/pack.json", "measurements/**/float16/*.json"]
)
def test_the_report_says_what_is_missing(record, copy, capfd):
    path = only(copy, record)
    path.write_text(path.read_text()[:50])
    assert run(["report", str(copy), "--format", "json"]) == 2
    captured = capfd.readouterr()
    report = strict(captured.out)
    validate(report)
    assert [p["code"] for p in report["problems"]] == [2]
    assert path.name in report["problems"][0]["message"]
    assert str(path) in captured.err
    (section,) = [s for s in report["sections"] if s["packs"]]
    assert "float32" in {pack["recipe"] for pack in section["packs"]}
    assert run(["report", str(copy), "--format", "md"]) == 2
    assert "Missing here" in capfd.readouterr().out
    assert run(["report", str(copy)]) == 2
    assert "Missing here" in (copy / "report.html").read_text()


def test_the_others_are_measured(copy, capfd):
    only(copy, "packs/*/*/float16/pack.json").write_text("{}")
    assert run(["measure", str(copy), "--device", "this-machine", "--json"]) == 2
    captured = capfd.readouterr()
    assert [(r["recipe"], r["status"]) for r in records(captured.out)] == [("float32", "ok")]
    assert "float16/pack.json" in captured.err


def test_nothing_but_damaged_records_is_an_error_at_once(copy, capfd):
    for path in copy.glob("packs/*/*/*/pack.json"):
        path.write_text("{}")
    assert run(["measure", str(copy), "--device", "this-machine", "--json"]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "not a pack record" in captured.err
