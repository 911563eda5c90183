"""pack, measure, report, run from the command line, on a tiny model: records, codes, resuming."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgepack.cli.app import run
from tests.command import records, strict, validate
from tests.tiny import Tiny

pytestmark = pytest.mark.tf
QUICK = "[measure]\nruns = 20\nmin_seconds = 0.02\nwarmup_runs = 2\nwarmup_seconds = 0.01\n"
BOARD = 'name = "Board"\nkind = "linux"\narch = "x86_64"\nruntimes = ["litert-2.3"]\n' + QUICK


@pytest.fixture(scope="module")
def bench(tiny: Tiny, tmp_path_factory) -> Path:
    """A folder with targets of various strictness and devices of them, all this machine."""
    folder = tmp_path_factory.mktemp("bench")
    limits = {
        "board": "",
        "strict": "[limits]\nmax_latency_ms = 0.000001\n",
        "small": "[memory]\nflash_kib = 1\n",
    }
    for name, more in limits.items():
        (folder / f"{name}.toml").write_text(BOARD + more)
        device = folder / f"on-{name}.toml"
        device.write_text(f'link = "local"\ntarget = "{name}"\n')
    return folder


@pytest.fixture(scope="module")
def packed(tiny: Tiny, bench, tmp_path_factory) -> Path:
    """float32 and int8 packs of the tiny model for three targets."""
    out = tmp_path_factory.mktemp("packed") / "out"
    argv = ["pack", str(tiny.model), "--recipe", "float32", "--recipe", "int8", "-o", str(out)]
    for name in ("board", "strict"):
        argv += ["--target", str(bench / f"{name}.toml")]
    argv += ["--calibration", str(tiny.calibration), "--evaluation", str(tiny.evaluation)]
    assert run(argv) == 0
    return out


@pytest.fixture
def copy(packed, tmp_path) -> Path:
    """The packed folder, to be changed."""
    return Path(shutil.copytree(packed, tmp_path / "out"))


def pack(tiny: Tiny, out: Path, *more: str) -> list[str]:
    argv = ["pack", str(tiny.model), "-o", str(out), "--json", *more]
    return [*argv, "--calibration", str(tiny.calibration), "--evaluation", str(tiny.evaluation)]


def test_pack_prints_one_valid_record_a_cell(tiny, bench, tmp_path, capfd):
    argv = pack(tiny, tmp_path / "out", "--target", str(bench / "board.toml"))
    assert run([*argv, "--recipe", "int8", "--recipe", "float32"]) == 0
    found = records(capfd.readouterr().out)
    assert [record["recipe"] for record in found] == ["int8", "float32"]
    for record in found:
        assert record["status"] == "ok"
        assert record["quality"]["reference"] == 1.0
        assert record["quality"]["samples"] == 64
        assert Path(record["artefact"]["path"]).is_absolute()
        content = Path(record["artefact"]["path"]).read_bytes()
        assert len(content) == record["artefact"]["size_bytes"]
    int8 = found[0]
    assert int8["signature"]["inputs"][0]["dtype"] == "int8"
    assert int8["check"]["sqnr_db"] > 15
    on_disk = strict(next((tmp_path / "out").glob("packs/*/board/int8/pack.json")).read_text())
    validate(on_disk)
    assert on_disk["artefact"]["path"] == "tiny-int8.tflite"


def test_a_model_that_does_not_fit_is_packed_and_exits_with_1(tiny, bench, tmp_path, capfd):
    argv = pack(tiny, tmp_path / "out", "--target", str(bench / "small.toml"), "--recipe", "int8")
    assert run(argv) == 1
    (record,) = records(capfd.readouterr().out)
    assert record["status"] == "ok"
    assert not record["fit"]["ok"]
    assert any("KiB" in reason for reason in record["fit"]["reasons"])


@pytest.mark.parametrize(
    ("limit", "words"),
    [("max_flash_kib = 1", "limit 1 KiB"), ("max_accuracy_drop = 0.0", None)],
)
def test_a_limit_that_packing_can_judge_is_judged(limit, words, tiny, bench, tmp_path, capfd):
    """The report exits with 1 for it, so packing does too, and says which."""
    (tmp_path / "limited.toml").write_text(f"{BOARD}[limits]\n{limit}\n")
    argv = pack(tiny, tmp_path / "out", "--target", str(tmp_path / "limited.toml"))
    assert run([*argv, "--recipe", "float32"]) == (1 if words else 0)
    captured = capfd.readouterr()
    (record,) = records(captured.out)
    assert record["fit"]["ok"]
    assert ("limit missed: float32" in captured.err) == bool(words)
    assert (words or "") in captured.err
    assert run(["report", str(tmp_path / "out")]) == (1 if words else 0)


def test_a_namesake_in_the_projects_folder_does_not_judge(tiny, tmp_path, capfd, monkeypatch):
    """The spec that was given is the one whose limits count."""
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets/mine.toml").write_text(BOARD)
    (tmp_path / "mine.toml").write_text(f"{BOARD}[limits]\nmax_flash_kib = 1\n")
    monkeypatch.chdir(tmp_path)
    argv = pack(tiny, tmp_path / "out", "--target", "./mine.toml", "--recipe", "float32")
    assert run(argv) == 1
    assert "limit missed: float32" in capfd.readouterr().err


def test_a_refused_cell_does_not_stop_the_others(tiny, bench, tmp_path, capfd):
    argv = pack(
        tiny, tmp_path / "out", "--target", "nucleo-f446re", "--target", str(bench / "board.toml")
    )
    assert run([*argv, "--recipe", "float16"]) == 4
    refused, made = records(capfd.readouterr().out)
    assert (refused["status"], refused["error"]["code"]) == ("unsupported", 4)
    assert refused["artefact"] is None
    assert made["status"] == "ok"


def test_without_a_recipe_each_target_has_its_own(tiny, bench, tmp_path, capfd):
    text = BOARD.replace("[measure]", 'default_recipe = "float32"\n[measure]')
    (tmp_path / "plain.toml").write_text(text)
    argv = pack(tiny, tmp_path / "out", "--target", str(tmp_path / "plain.toml"))
    assert run([*argv, "--target", str(bench / "board.toml")]) == 0
    found = records(capfd.readouterr().out)
    assert [(r["target"], r["recipe"]) for r in found] == [("plain", "float32"), ("board", "int8")]


def test_resume_keeps_what_is_fresh_and_remakes_what_is_stale(tiny, bench, copy, capfd):
    argv = pack(tiny, copy, "--target", str(bench / "board.toml"), "--resume")
    argv += ["--recipe", "float32", "--recipe", "int8"]
    files = {name: copy / f"packs/tiny/board/{name}/pack.json" for name in ("float32", "int8")}
    before = {name: path.stat().st_mtime_ns for name, path in files.items()}
    assert run(argv) == 0
    assert {name: path.stat().st_mtime_ns for name, path in files.items()} == before
    assert run([*argv, "--seed", "5"]) == 0
    assert all(path.stat().st_mtime_ns > before[name] for name, path in files.items())
    files["int8"].with_name("tiny-int8.tflite").unlink()
    capfd.readouterr()
    assert run([*argv, "--seed", "5"]) == 0
    assert files["int8"].with_name("tiny-int8.tflite").is_file()
    records(capfd.readouterr().out)


def test_resume_judges_the_fit_to_the_target_as_it_is_now(tiny, tmp_path, capfd):
    target = tmp_path / "growing.toml"
    argv = pack(tiny, tmp_path / "out", "--target", str(target), "--resume", "--recipe", "float32")
    file = tmp_path / "out/packs/tiny/growing/float32/pack.json"
    for kib, code in ((1, 1), (512, 0), (1, 1)):
        target.write_text(f"{BOARD}[memory]\nflash_kib = {kib}\n")
        assert run(argv) == code
        (record,) = records(capfd.readouterr().out)
        assert record["fit"]["ok"] == strict(file.read_text())["fit"]["ok"] == (code == 0)


def test_a_spoiled_pack_does_not_stop_the_others(bench, copy, capfd):
    path = copy / "packs/tiny/board/int8/tiny-int8.tflite"
    path.write_bytes(path.read_bytes()[:1000])
    argv = ["measure", str(copy), "--json", "--device", str(bench / "on-board.toml")]
    assert run(argv) == 3
    found = records(capfd.readouterr().out)
    failed = [record for record in found if record["status"] == "failed"]
    assert [(r["recipe"], r["error"]["code"]) for r in failed] == [("int8", 3)]
    assert len([r for r in found if r["status"] == "ok"]) == len(found) - 1 == 3


def test_allowed_overlap_is_recorded(tiny, bench, tmp_path, capfd):
    argv = ["pack", str(tiny.model), "--target", str(bench / "board.toml"), "--recipe", "int8"]
    argv += ["--calibration", str(tiny.evaluation), "--evaluation", str(tiny.evaluation)]
    argv += ["-o", str(tmp_path / "out"), "--json", "--allow-overlap"]
    assert run(argv) == 0
    (record,) = records(capfd.readouterr().out)
    assert any("64 calibration samples are evaluation samples" in n for n in record["notes"])


def test_measure_a_folder_stores_and_judges(tiny, bench, copy, capfd):
    argv = ["measure", str(copy), "--evaluation", str(tiny.evaluation), "--json"]
    assert run([*argv, "--device", str(bench / "on-board.toml")]) == 0
    found = records(capfd.readouterr().out)
    assert len(found) == 4
    for record in found:
        assert record["status"] == "ok"
        assert record["device"]["target"] == "board"
        assert record["agreement"]["max_abs"] == 0
        assert record["quality"]["device"] == pytest.approx(record["quality"]["host"])
        assert record["latency_us"]["n"] == len(record["samples_us"]) >= 20
        low, high = record["latency_us"]["ci95"]
        assert low <= record["latency_us"]["p50"] <= high
    assert run([*argv, "--device", str(bench / "on-strict.toml")]) == 1
    capfd.readouterr()
    stored = list(copy.glob("measurements/**/*.json"))
    assert len(stored) == 8
    for path in stored:
        validate(strict(path.read_text()))
    assert run(["report", str(copy), "--format", "json"]) == 1
    report = strict(capfd.readouterr().out)
    validate(report)
    verdicts = [v for section in report["sections"] for v in section["verdicts"]]
    assert {(v["limit"], v["met"]) for v in verdicts} == {("max_latency_ms", False)}


def test_measure_one_packed_file_knows_its_pack(packed, bench, capfd):
    path = packed / "packs/tiny/board/int8/tiny-int8.tflite"
    assert run(["measure", str(path), "--device", str(bench / "on-board.toml"), "--json"]) == 0
    (record,) = records(capfd.readouterr().out)
    assert (record["recipe"], record["agreement"]["samples"]) == ("int8", 8)
    assert len(record["pack_sha256"]) == 64


def test_a_pack_that_was_carried_off_is_measured_and_nothing_is_written(
    packed, bench, tmp_path, capfd, monkeypatch
):
    shutil.copytree(packed / "packs/tiny/board/int8", tmp_path / "mine")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path / "mine")
    argv = ["measure", "tiny-int8.tflite", "--device", str(bench / "on-board.toml"), "--json"]
    assert run([*argv, "--targets", str(bench)]) == 0
    (record,) = records(capfd.readouterr().out)
    assert record["recipe"] == "int8"
    assert sorted(tmp_path.rglob("*")) == before
    monkeypatch.chdir(packed / "packs/tiny/board/int8")
    assert run([*argv, "--targets", str(bench)]) == 0
    assert list(packed.glob("measurements/on-board/tiny/board/int8/litert-python.json"))


def test_measure_a_bare_file_with_given_inputs(packed, bench, tmp_path, capfd):
    bare = tmp_path / "bare.tflite"
    bare.write_bytes((packed / "packs/tiny/board/int8/tiny-int8.tflite").read_bytes())
    np.savez(tmp_path / "inputs.npz", np.zeros((3, 8, 8, 1), np.float32))
    argv = ["measure", str(bare), "--device", str(bench / "on-board.toml"), "--json"]
    assert run(argv) == 2  # nobody has told what 'board' is
    argv += ["--targets", str(bench)]
    assert run([*argv, "--inputs", str(tmp_path / "inputs.npz")]) == 0
    (record,) = records(capfd.readouterr().out)
    assert record["pack_sha256"] is None
    assert record["agreement"]["samples"] == 3
    assert list(tmp_path.rglob("*.json")) == []
    np.savez(tmp_path / "inputs.npz", np.zeros((3, 9, 9, 1), np.float32))
    assert run([*argv, "--inputs", str(tmp_path / "inputs.npz")]) == 7


def test_measure_notices_a_changed_artefact(copy, bench, capfd):
    next(copy.glob("packs/tiny/board/int8/*.tflite")).write_bytes(b"something else")
    assert run(["measure", str(copy), "--device", str(bench / "on-board.toml")]) == 3
    assert "pack it again" in capfd.readouterr().err


def test_an_unreachable_device_is_a_record_and_the_others_go_on(copy, bench, tmp_path, capfd):
    away = tmp_path / "away.toml"
    away.write_text('link = "ssh"\ntarget = "board"\naddress = "nobody@127.0.0.1:9"\n')
    argv = ["measure", str(copy), "--device", str(away), "--device", str(bench / "on-board.toml")]
    assert run([*argv, "--json"]) == 5
    found = records(capfd.readouterr().out)
    assert [record["status"] for record in found] == ["unreachable"] * 4 + ["ok"] * 4
    assert all(record["error"]["code"] == 5 and record["error"]["hint"] for record in found[:4])


def test_an_unknown_runner_is_a_mistake_on_the_command_line(copy, bench, capfd):
    argv = ["measure", str(copy), "--device", str(bench / "on-board.toml"), "--runner", "litert"]
    assert run(argv) == 2
    assert "litert-python" in capfd.readouterr().err


def test_report_formats(copy, tmp_path, capfd):
    assert run(["report", str(copy)]) == 0
    assert (copy / "report.html").read_text().startswith("<!doctype html>")
    assert run(["report", str(copy), "--format", "md"]) == 0
    assert "int8" in capfd.readouterr().out
    assert run(["report", str(copy), "-o", str(tmp_path / "r.json")]) == 0
    validate(strict((tmp_path / "r.json").read_text()))


def test_a_plan_is_previewed_carried_out_and_resumed(tiny, bench, tmp_path, capfd):
    plan = tmp_path / "plan.toml"
    plan.write_text(
        f'model = "{tiny.model}"\ntargets = ["{bench}/board.toml"]\n'
        f'recipes = ["float32", "int8"]\ndevices = ["{bench}/on-board.toml"]\n'
        f'calibration = "{tiny.calibration}"\nevaluation = "{tiny.evaluation}"\n'
    )
    out = tmp_path / "out"
    argv = ["run", str(plan), "-o", str(out)]
    assert run([*argv, "--dry-run"]) == 0
    preview = capfd.readouterr().out
    assert "int8" in preview
    assert "on-board" in preview
    assert not out.exists()
    assert run(argv) == 0
    assert {path.name for path in out.glob("report.*")} == {
        "report.html",
        "report.md",
        "report.json",
    }
    report = json.loads((out / "report.json").read_text())
    assert len(report["sections"][0]["measurements"]) == 2
    before = {path: path.stat().st_mtime_ns for path in out.glob("p*/**/*.json")}
    before |= {path: path.stat().st_mtime_ns for path in out.glob("measurements/**/*.json")}
    assert run([*argv, "--resume"]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_stdout_is_data_alone(tiny, bench, tmp_path):
    """What native libraries print goes to stderr: the real process, the real descriptor."""
    from tests.command import edgepack

    argv = pack(tiny, tmp_path / "out", "--target", str(bench / "board.toml"), "--recipe", "int8")
    done = edgepack(*argv)
    assert done.returncode == 0
    assert len(records(done.stdout)) == 1


@pytest.fixture
def unchecked(tiny, tmp_path, monkeypatch, capfd) -> Path:
    """An int8 pack for a runtime that, this once, cannot run on this host."""
    monkeypatch.setattr("edgepack.runtimes.child.available", lambda runtime: "not here")
    argv = pack(tiny, tmp_path / "out", "--target", "generic-linux-armv7", "--recipe", "int8")
    assert run(argv) == 0
    (record,) = records(capfd.readouterr().out)
    assert record["status"] == record["check"]["status"] == "unchecked"
    assert record["check"]["why"] == "not here"
    assert record["quality"]["host"] is None
    assert record["error"] is None
    return tmp_path / "out"


def test_what_the_host_could_not_check_is_verified_when_measured(unchecked, bench, capfd):
    argv = ["measure", str(unchecked), "--device", "this-machine", "--json"]
    assert run(argv) == 0
    (record,) = records(capfd.readouterr().out)
    assert any(note.startswith("verified on the device: ") for note in record["notes"])


def test_a_device_that_computes_something_else_is_found_out(unchecked, capfd):
    path = next(unchecked.rglob("golden.npz"))
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["output_000"] = -3 * arrays["output_000"]
    np.savez(path, **arrays)
    assert run(["measure", str(unchecked), "--device", "this-machine", "--json"]) == 6
    (record,) = records(capfd.readouterr().out)
    assert record["status"] == "failed"
    assert "something else" in record["error"]["message"]
    assert record["latency_us"]["n"] > 0  # what was measured before is kept
