"""A record that was damaged is told, costs the exit code, and stops nothing else."""

from __future__ import annotations

import json
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


def test_what_debug_found_is_missing_where_its_record_is_damaged(copy, capfd):
    only(copy, "packs/*/*/float16/pack.json").with_name("debug.json").write_text("{")
    assert run(["report", str(copy), "--format", "json"]) == 2
    (problem,) = strict(capfd.readouterr().out)["problems"]
    assert "debug.json" in problem["message"]


def test_a_file_that_is_not_the_packs_own_is_found_out(copy, capfd):
    wrong = only(copy, "packs/*/*/float16/*.tflite")
    wrong.write_bytes(only(copy, "packs/*/*/float32/*.tflite").read_bytes())
    assert run(["report", str(copy), "--format", "json"]) == 3
    report = strict(capfd.readouterr().out)
    assert "is not the file" in report["problems"][0]["message"]
    assert set(report["sections"][0]["operators"]) == {"float32"}


def test_a_spoiled_target_is_not_taken_for_one_without_limits(copy, capfd):
    only(copy, "targets/*.json").write_text("{")
    assert run(["report", str(copy), "--format", "json"]) == 2
    captured = capfd.readouterr()
    assert "not JSON" in strict(captured.out)["problems"][0]["message"]
    assert "is not known" not in captured.err


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"path": "a\\u0000b"}',
        json.dumps({"path": "a" * 300}),
        '{"path": "../float32/tiny-float32.tflite"}',
        '{"size_bytes": 1' + "0" * 400 + "}",
    ],
    ids=["nested", "nul", "long", "outside", "astronomical"],
)
def test_hostile_records(text, copy, capfd):
    record = only(copy, "packs/*/*/float16/pack.json")
    if text.startswith("{"):
        whole = json.loads(record.read_text())
        whole["artefact"] |= json.loads(text)
        text = json.dumps(whole)
    record.write_text(text)
    for argv in (["report", str(copy)], ["measure", str(copy), "--device", "this-machine"]):
        assert run(argv) == 2
        captured = capfd.readouterr()
        assert "float16/pack.json" in captured.err
        assert "bug in edgepack" not in captured.err


def test_spoiled_golden_samples_cost_their_own_pack_alone(copy, capfd):
    only(copy, "packs/*/*/float16/golden.npz").write_bytes(b"x")
    assert run(["measure", str(copy), "--device", "this-machine", "--json"]) == 2
    found = {r["recipe"]: r for r in records(capfd.readouterr().out)}
    assert found["float32"]["status"] == "ok"
    assert found["float16"]["status"] == "failed"
    assert "golden.npz" in found["float16"]["error"]["message"]


def test_resume_makes_spoiled_golden_samples_again(tiny, copy):
    golden = only(copy, "packs/*/*/float16/golden.npz")
    golden.write_bytes(b"x")
    argv = ["pack", str(tiny.model), "--target", "generic-linux-x86_64", "-o", str(copy)]
    assert run([*argv, "--recipe", "float16", "--resume"]) == 0
    assert len(golden.read_bytes()) > 100


def test_run_tells_of_damage_as_report_does(tiny, copy, tmp_path, capfd):
    only(copy, "measurements/**/float16/*.json").write_text("{")
    plan = tmp_path / "plan.toml"
    plan.write_text(
        f'model = "{tiny.model}"\ntargets = ["generic-linux-x86_64"]\nrecipes = ["float32"]\n'
    )
    assert run(["run", str(plan), "-o", str(copy), "--resume"]) == 2
    assert "not a measurement record" in capfd.readouterr().err


def test_a_figure_is_never_filed_under_another_metric(tiny, tmp_path, capfd):
    """The samples alone do not say what was judged."""
    other = tmp_path / "other.toml"
    text = tiny.evaluation.read_text().replace('metric = "top1"', 'metric = "top5"')
    other.write_text(text.replace("evaluation.npz", str(tiny.folder / "evaluation.npz")))
    argv = ["pack", str(tiny.model), "--target", "generic-linux-x86_64", "--recipe", "float32"]
    argv += ["-o", str(tmp_path / "out"), "--json"]
    assert run([*argv, "--evaluation", str(tiny.evaluation)]) == 0
    capfd.readouterr()
    argv_measure = ["measure", str(tmp_path / "out"), "--device", "this-machine", "--json"]
    assert run([*argv_measure, "--evaluation", str(other)]) == 0
    (record,) = records(capfd.readouterr().out)
    assert (record["quality"]["metric"], record["quality"]["host"]) == ("top5", None)
