"""debug from the command line: records, tables, exit codes, files that are not what they should."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from edgepack.cli.app import run
from edgepack.export.flatbuffer import packed as as_bytes
from edgepack.export.flatbuffer import unpacked
from tests.command import edgepack, strict, validate
from tests.tiny import Tiny, write_set

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def file(tiny: Tiny, tmp_path_factory) -> Path:
    """The tiny model in int8, carried off from its pack."""
    out = tmp_path_factory.mktemp("packed")
    arguments = ["--target", "generic-linux-x86_64", "--recipe", "int8"]
    data = ["--calibration", str(tiny.calibration)]
    assert run(["pack", str(tiny.model), *arguments, *data, "-o", str(out), "--json"]) == 0
    path = out / "tiny-int8.tflite"
    path.write_bytes(of_pack(out).read_bytes())
    return path


def of_pack(out: Path) -> Path:
    """The one artefact in an output folder."""
    return next(out.glob("packs/*/*/*/*.tflite"))


def debug(tiny: Tiny, file: Path, *more: object) -> int:
    arguments = ["debug", tiny.model, file, "--calibration", tiny.calibration, *more]
    return run([str(argument) for argument in arguments])


def test_json_is_one_valid_record_and_the_table_names_its_layers(tiny, file, capfd):
    assert debug(tiny, file, "--samples", "8", "--json") == 0
    found = strict(capfd.readouterr().out)
    validate(found)
    assert found["samples"] == 8
    assert found["rescued"] is None
    assert set(found["ranked"]) == {"first", "second", "pool", "label"}
    assert debug(tiny, file) == 0
    shown = capfd.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(shown) if line.startswith("layer"))
    rows = shown[start + 1 : start + 1 + len(found["layers"])]
    decibels = [float(re.search(r"([\d.]+) dB", row)[1]) for row in rows]
    assert decibels == sorted(decibels)  # the worst first
    assert {row.split()[0] for row in rows} == set(found["ranked"])


def test_the_report_shows_what_was_found_until_the_file_changes(tiny, file, capfd):
    out = file.parent
    assert debug(tiny, of_pack(out), "--json") == 0
    found = strict(capfd.readouterr().out)
    assert run(["report", str(out), "--format", "json", "-o", str(out / "report.json")]) == 0
    report = strict((out / "report.json").read_text())
    validate(report)
    assert report["sections"][0]["debugs"] == {"int8": found}
    record = of_pack(out).parent / "debug.json"
    record.write_text(record.read_text().replace(found["sha256"], "0" * 64))
    assert run(["report", str(out), "--format", "json", "-o", str(out / "report.json")]) == 0
    assert strict((out / "report.json").read_text())["sections"][0]["debugs"] == {}


@pytest.mark.parametrize(
    ("limit", "code"), [("accuracy=100pt", 0), ("accuracy=0.0", 0), ("accuracy=100%", 1)]
)
def test_a_rescue_ends_by_whether_its_limit_is_met(tiny, file, tmp_path, capfd, limit, code):
    labels = np.zeros(8, np.int64)  # not even the float model is right about all of these
    x = np.load(tiny.evaluation.with_suffix(".npz"))["x"][:8]
    evaluation = write_set(tmp_path, "hard", x=x, y=np.where(np.arange(8) > 3, 3, labels))
    more = ["--evaluation", evaluation, "--rescue", "--limit", limit, "-o", tmp_path / "out"]
    assert debug(tiny, file, *more, "--json") == code
    found = strict(capfd.readouterr().out)
    validate(found)
    assert found["rescued"]["met"] == (code == 0)
    tried = found["rescued"]["tried"]
    assert bool(tried) == (code == 1)
    assert all(trial["value"] is not None for trial in tried)
    assert found["rescued"]["file"] is None
    assert not (tmp_path / "out").exists()
    if code == 1:
        assert tried[0]["layers"] == []  # first the plain scheme, made anew
        assert {trial["scheme"] for trial in tried} == {"int8", "int16x8", "float32"}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--rescue"], "--rescue needs --limit and --evaluation"),
        (["--limit", "accuracy=1pt"], "--limit and -o need --rescue"),
        (["--rescue", "--limit", "soon", "--evaluation", "EVALUATION"], "accuracy=0.5pt"),
        (["--rescue", "--limit", "mse=1", "--evaluation", "EVALUATION"], "judged by top1"),
        (["--samples", "0"], "--samples"),
        (["--target", "rpi4-46"], "did you mean"),
    ],
)
def test_a_wrong_command_line_ends_with_2(tiny, file, capfd, more, says):
    named = [str(tiny.evaluation) if word == "EVALUATION" else word for word in more]
    assert debug(tiny, file, *named) == 2
    printed = capfd.readouterr()
    assert says in printed.err
    assert printed.out == ""


def test_calibration_must_be_named_and_found(tiny, file, capfd):
    assert run(["debug", str(tiny.model), str(file)]) == 2
    assert "--calibration" in capfd.readouterr().err
    assert run(["debug", str(tiny.model), str(file), "--calibration", "nowhere.toml"]) == 2
    assert "nowhere.toml" in capfd.readouterr().err


def test_data_that_does_not_suit_ends_with_7(tiny, file, tmp_path, capfd):
    wrong = write_set(tmp_path, "wrong", x=np.zeros((4, 5, 5, 1), np.float32))
    assert run(["debug", str(tiny.model), str(file), "--calibration", str(wrong)]) == 7
    assert capfd.readouterr().out == ""
    assert debug(tiny, file, "--evaluation", tiny.calibration) == 7
    assert "--allow-overlap" in capfd.readouterr().err


def broken(content: bytes, how: str) -> bytes:
    """A file that is damaged in one way."""
    if how == "cut":
        return content[: len(content) // 2]
    if how == "text":
        return b"not a model"
    tree = unpacked(content)
    graph = tree.subgraphs[0]
    if how == "shape":
        graph.tensors[graph.operators[0].inputs[1]].shape = np.array([8, 3, 3, 7], np.int32)
    if how == "stride":
        graph.operators[0].builtinOptions.strideW = 0
    if how == "crash":
        graph.operators[1].inputs = np.array([graph.operators[1].inputs[0], -1, -1], np.int32)
    return as_bytes(tree)


@pytest.mark.parametrize("how", ["cut", "text", "shape", "stride", "crash"])
def test_a_damaged_file_ends_with_3_and_one_line(tiny, file, tmp_path, capfd, how):
    path = tmp_path / "broken.tflite"
    path.write_bytes(broken(file.read_bytes(), how))
    assert debug(tiny, path) == 3
    printed = capfd.readouterr()
    assert printed.out == ""
    assert len([line for line in printed.err.splitlines() if line.startswith("error:")]) == 1
    assert ("crashed with SIG" in printed.err) == (how == "crash")


def test_missing_files_end_with_3(tiny, file, tmp_path, capfd):
    assert debug(tiny, tmp_path / "none.tflite") == 3
    assert "no such file" in capfd.readouterr().err
    arguments = ["debug", tmp_path / "none.keras", file, "--calibration", tiny.calibration]
    assert run([str(argument) for argument in arguments]) == 3
    assert "none.keras" in capfd.readouterr().err


def test_the_real_command_keeps_stdout_for_the_record(tiny, file):
    done = edgepack("debug", tiny.model, file, "--calibration", tiny.calibration, "--json")
    assert done.returncode == 0
    validate(strict(done.stdout))
    assert "layer by layer" in done.stderr
