"""int8 by every producer and calibrator, side by side on the same calibration data.

Prints, for each reference model, the output MSE against the float model in the LiteRT runtime,
its ratio to plain TFLiteConverter's (goal for ``auto``: at most 1.05) and the top-1 accuracy.
``--draws N`` repeats with N random calibration sets and prints the ratios' geometric mean.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from benchmarks.converter_int8 import converter_int8
from benchmarks.descriptions import CASES, Case, describe
from benchmarks.reference import reference_data
from edgepack.export import Exported, export
from edgepack.export.compare import run
from edgepack.export.flatbuffer import completed
from edgepack.model.data import Data, open_data
from edgepack.model.load import Model, load
from edgepack.model.predict import predict
from edgepack.native import captured
from edgepack.runtimes.tables import load as load_runtime
from edgepack.spec.data import Dataset
from edgepack.spec.library import find
from edgepack.spec.recipe import Recipe

CALIBRATORS = ("minmax", "moving-average", "percentile", "mse", "auto")
RUNTIME = "litert-2.3"
CONVERTER = "converter"
HEADER = f"{'model':<9} {'made by':<30} {'MSE':>10} {'ratio':>6} {'top-1 %':>8} {'float %':>8}"


@dataclass(frozen=True, kw_only=True)
class Set:
    """Evaluation data with the float model's answers."""

    x: list[Any]
    y: Any
    wanted: list[Any]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=[*CASES, "ad"])
    parser.add_argument("--schemes", nargs="*", default=["int8"])
    parser.add_argument("--draws", type=int, default=0)
    options = parser.parse_args()
    data = reference_data()
    print(HEADER)
    for name in options.models:
        ratios: dict[str, list[float]] = {}
        for draw in range(options.draws or 1):
            with tempfile.TemporaryDirectory() as folder:
                model, calibration, judged = opened(name, data, Path(folder), draw)
                rows = table(model, calibration, judged, options.schemes)
            for made, mse, accuracy in rows:
                ratio = mse / rows[0][1]
                ratios.setdefault(made.split(":")[0], []).append(ratio)
                if not options.draws:
                    floats = top1(judged.wanted[0], judged.y)
                    print(
                        f"{name:<9} {made:<30} {mse:10.3g} {ratio:6.2f} {accuracy:>8} {floats:>8}"
                    )
        if options.draws:
            for made, found in ratios.items():
                mean = float(np.exp(np.mean(np.log(found))))
                print(f"{name:<9} {made:<30} mean {mean:6.2f} worst {max(found):6.2f}", flush=True)


def opened(name: str, data: Path, folder: Path, draw: int) -> tuple[Model, Data, Set]:
    """The model, its calibration data and its evaluation set; ``draw`` 0 takes the usual rows."""
    case = ad(data, folder) if name == "ad" else CASES[name]
    if draw:
        case = redrawn(case, data, draw)
    CASES[name] = case
    path, calibration, evaluation = describe(name, data, folder)
    model = load(path)
    batch = next(open_data(find(Dataset, str(evaluation))).batches(20_000))
    judged = Set(x=list(batch.x), y=batch.y, wanted=predict(model, list(batch.x)))
    return model, open_data(find(Dataset, str(calibration))), judged


def redrawn(case: Case, data: Path, draw: int) -> Case:
    """The case with other calibration rows; where one set serves both, the rest evaluates."""
    with np.load(data / "sets" / case.calibration) as archive:
        rows = np.random.default_rng(draw).permutation(len(archive[case.x]))
    chosen = sorted(map(int, rows[: len(case.calibrate)]))
    rest = sorted(set(map(int, rows)) - set(chosen))
    same = case.calibration == case.evaluation
    return replace(case, calibrate=chosen, evaluate=rest if same else case.evaluate)


def ad(data: Path, folder: Path) -> Case:
    """The anomaly detector on windows of its one clip: every second one calibrates."""
    frames = np.fromfile(data / "sets/ad01_toycar_one_clip_logmel.bin", "<f4").reshape(200, 128)
    windows = np.stack([frames[i : i + 5].ravel() for i in range(196)])
    np.savez(folder / "ad.npz", x=windows, y=np.zeros(196, np.int64))
    return Case(
        model="mlperf_ad_autoencoder.h5",
        calibration=str(folder / "ad.npz"),
        evaluation=str(folder / "ad.npz"),
        calibrate=range(0, 196, 2),
        evaluate=range(1, 196, 2),
    )


def table(
    model: Model, calibration: Data, judged: Set, schemes: list[str]
) -> list[tuple[str, float, str]]:
    """(made by, MSE, top-1 in per cent) of the converter's int8, then of each of ours."""
    with captured():
        plain = completed(converter_int8(model, calibration), model)
    rows = [scored(CONVERTER, plain, model, judged)]
    for scheme in schemes:
        for calibrator in CALIBRATORS if scheme in ("int8", "int4") else ("auto",):
            recipe = Recipe(id=scheme, scheme=scheme, calibrator=calibrator)  # type: ignore[arg-type]
            made: Exported = export(model, recipe, load_runtime(RUNTIME), calibration)
            chose = f": {made.calibrator}" if calibrator == "auto" else ""
            rows.append(scored(f"{scheme} {calibrator}{chose}", made.content, model, judged))
    return rows


def scored(made: str, content: bytes, model: Model, judged: Set) -> tuple[str, float, str]:
    """One row of the table."""
    found = run(content, judged.x, model, RUNTIME)
    squares = [((f - w) ** 2).ravel() for f, w in zip(found, judged.wanted, strict=True)]
    return made, float(np.concatenate(squares).mean()), top1(found[0], judged.y)


def top1(outputs: Any, labels: Any) -> str:
    """Accuracy in per cent; empty for an autoencoder."""
    if labels is None or outputs.shape[-1] > 100:
        return ""
    return f"{100 * (outputs.argmax(-1).ravel() == np.ravel(labels)).mean():.2f}"


if __name__ == "__main__":
    main()
