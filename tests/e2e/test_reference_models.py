"""Five real models, every scheme, a real SSH server: packed, checked, measured, reported."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.converter_int8 import converter_int8
from benchmarks.descriptions import CASES, describe
from edgepack.cli.app import run
from edgepack.graph.facts import facts
from edgepack.model.data import open_data
from edgepack.model.load import load
from edgepack.model.predict import predict
from edgepack.spec.data import Dataset
from edgepack.spec.library import find
from edgepack.workflow import artefact
from tests.command import edgepack, records, strict, validate

pytestmark = [pytest.mark.e2e, pytest.mark.tf, pytest.mark.slow, pytest.mark.no_cover]
SCHEMES = ("float32", "float16", "dynamic", "int8", "int16x8", "int4")
TARGET = """
name = "Loopback"
kind = "linux"
arch = "x86_64"
runtimes = ["litert-2.3"]
[measure]
runs = 30
min_seconds = 0.05
warmup_runs = 5
warmup_seconds = 0.05
"""


@dataclass(frozen=True)
class Packed:
    """One model in every scheme. ``evaluation`` is every sixth sample of ``whole``."""

    out: Path
    model: Path
    calibration: Path
    evaluation: Path
    whole: Path
    by_recipe: dict[str, dict[str, Any]]


@pytest.fixture(scope="module", params=sorted(CASES))
def packed(request, reference_data, tmp_path_factory) -> Packed:
    """The model packed by the command line, all schemes in one run."""
    folder = tmp_path_factory.mktemp(request.param)
    _, _, whole = describe(request.param, reference_data, folder)
    whole = whole.rename(folder / "whole.toml")
    model, calibration, evaluation = describe(request.param, reference_data, folder, every=6)
    target, out = folder / "loopback.toml", folder / "out"
    target.write_text(TARGET)
    recipes = [word for scheme in SCHEMES for word in ("--recipe", scheme)]
    data = ["--calibration", calibration, "--evaluation", evaluation]
    done = edgepack("pack", model, "--target", target, *recipes, *data, "-o", out, "--json")
    assert done.returncode == 0, done.stderr
    by_recipe = {record["recipe"]: record for record in records(done.stdout)}
    return Packed(out, model, calibration, evaluation, whole, by_recipe)


def test_every_scheme_is_made_checked_and_judged(packed):
    assert set(packed.by_recipe) == set(SCHEMES)
    for record in packed.by_recipe.values():
        assert record["status"] == "ok"
        assert record["check"]["status"] == "ok"
        assert record["fit"]["ok"]
        assert Path(record["artefact"]["path"]).stat().st_size == record["artefact"]["size_bytes"]
    sizes = {name: record["artefact"]["size_bytes"] for name, record in packed.by_recipe.items()}
    assert sizes["int8"] < 0.55 * sizes["float32"]
    assert sizes["float16"] < 0.75 * sizes["float32"]


def answers(path: Path, evaluation: Path) -> tuple[np.ndarray, np.ndarray]:
    """(real outputs before any metric, labels) of a file over the evaluation set, in LiteRT."""
    answer = artefact.function(path, facts(path).signatures[0], "litert-2.3")
    batches = [
        (answer(list(b.x))[0], b.y) for b in open_data(find(Dataset, str(evaluation))).batches(500)
    ]
    outputs, labels = zip(*batches, strict=True)
    return np.concatenate(outputs), np.concatenate(labels).ravel()


def test_int8_loses_at_most_a_point(packed, record_property):
    """At most 1.0 point; the paired 95 % interval says how much of that is noise."""
    right = {}
    for name in ("float32", "int8"):
        path = Path(packed.by_recipe[name]["artefact"]["path"])
        outputs, labels = answers(path, packed.whole)
        right[name] = outputs.argmax(1) == labels
    lost = int((right["float32"] & ~right["int8"]).sum())
    won = int((~right["float32"] & right["int8"]).sum())
    samples = len(right["int8"])
    loss, half = (lost - won) / samples, 1.96 * np.sqrt(lost + won) / samples
    record_property("int8_loss_points", f"{100 * loss:.2f} ± {100 * half:.2f}")
    assert loss <= 0.01, f"{lost} lost, {won} won of {samples}: {100 * loss:.2f} ± {100 * half:.2f}"


@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")  # the peer's own words
def test_int8_error_is_at_most_that_of_the_converter(packed):
    """Output MSE on the evaluation set ≤ 1.05× TFLiteConverter's, calibrated on the same data."""
    model = load(packed.model)
    calibration = open_data(find(Dataset, str(packed.calibration)))
    evaluation = open_data(find(Dataset, str(packed.whole)))
    theirs = packed.out.parent / "converter.tflite"
    theirs.write_bytes(converter_int8(model, calibration))
    errors = {}
    for name, path in (
        ("converter", theirs),
        ("edgepack", Path(packed.by_recipe["int8"]["artefact"]["path"])),
    ):
        signature = facts(path).signatures[0]
        answer = artefact.function(path, signature, "litert-2.3")
        squares = []
        for batch in evaluation.batches(500):
            expected, found = predict(model, list(batch.x)), answer(list(batch.x))
            squares.append(np.square(np.asarray(found[0], np.float64) - expected[0]).ravel())
        errors[name] = float(np.concatenate(squares).mean())
    assert errors["edgepack"] <= 1.05 * errors["converter"], errors


def test_measured_over_ssh_and_reported(packed, loopback_device):
    device = packed.out.parent / "device.toml"  # of the packs' own target, for its short protocol
    device.write_text(
        re.sub('target = "[^"]*"', 'target = "loopback"', loopback_device.read_text())
    )
    done = edgepack(
        "measure", packed.out, "--json", "--device", device,
        "--evaluation", packed.evaluation,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = records(done.stdout)
    assert {record["recipe"] for record in found} == set(SCHEMES)
    for record in found:
        made = packed.by_recipe[record["recipe"]]
        assert record["status"] == "ok"
        assert record["device"]["link"] == "ssh"
        assert record["protocol"]["min_seconds"] == 0.05
        assert record["artefact_sha256"] == made["artefact"]["sha256"]
        assert len(record["samples_us"]) == record["latency_us"]["n"] >= 30
        assert record["agreement"]["max_abs"] == 0
        assert record["quality"]["device"] == pytest.approx(made["quality"]["host"], abs=1e-12)
    for kind in ("html", "md", "json"):
        assert run(["report", str(packed.out), "-o", str(packed.out / f"r.{kind}")]) == 0
    report = strict((packed.out / "r.json").read_text())
    validate(report)
    assert len(report["sections"][0]["measurements"]) == len(SCHEMES)
