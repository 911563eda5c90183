"""The reference models, each with descriptions of its calibration and evaluation data.

Calibration never comes from what evaluates. Sources and preprocessing: the reference data's own
README.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

KWS_SCALE, KWS_ZERO = 0.5847029089927673, 83


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model below ``models/``, and two sets below ``sets/`` with the rows to take of each."""

    model: str
    calibration: str
    evaluation: str
    x: str = "x"
    scale: float = 1.0
    offset: float = 0.0
    calibrate: Sequence[int] = range(200)
    evaluate: Sequence[int] = range(655)


CASES = {
    "resnet8": Case(
        model="mlperf_ic_resnet8.h5",
        calibration="cifar10_train_4660.npz",
        evaluation="cifar10_test_655.npz",
    ),
    "kws": Case(
        model="mlperf_kws_savedmodel",
        calibration="kws01_500.npz",
        evaluation="kws01_500.npz",
        x="x_int8",
        scale=KWS_SCALE,
        offset=-KWS_ZERO * KWS_SCALE,
        calibrate=range(0, 500, 5),
        evaluate=[row for row in range(500) if row % 5],
    ),
    "mnist": Case(
        model="tinymaix_mnist_resnet.h5",
        calibration="mnist_train_4742.npz",
        evaluation="mnist_test_10000.npz",
        scale=1 / 255,
        evaluate=range(0, 10_000, 5),
    ),
    "har": Case(
        model="stm32_har_cnn1d.h5",
        calibration="har_train.npz",
        evaluation="har_test.npz",
        scale=1 / 4000,
        calibrate=range(0, 3450, 17),  # the first rows are all of one class
        evaluate=range(3450),
    ),
    "tinymaix": Case(
        model="tinymaix_cifar10.h5",
        calibration="cifar10_train_4660.npz",
        evaluation="cifar10_test_655.npz",
        scale=1 / 255,
    ),
}


def describe(name: str, data: Path, folder: Path, *, every: int = 1) -> tuple[Path, Path, Path]:
    """(model, calibration description, evaluation description), the latter written to folder.

    ``every`` n-th sample of the evaluation set is taken.
    """
    case = CASES[name]
    calibration = folder / f"{name}-calibration.toml"
    evaluation = folder / f"{name}-evaluation.toml"
    calibration.write_text(_toml(case, data, case.calibration, case.calibrate, labels=False))
    evaluation.write_text(_toml(case, data, case.evaluation, case.evaluate[::every], labels=True))
    return data / "models" / case.model, calibration, evaluation


def _toml(case: Case, data: Path, name: str, indices: Sequence[int] | None, *, labels: bool) -> str:
    lines = ['source = "npz"', f'path = "{data / "sets" / name}"', f'x = "{case.x}"']
    lines += ['y = "y"', 'metric = "top1"'] if labels else []
    lines += [f"indices = {list(indices)}"]
    return "\n".join([*lines, "[preprocess]", f"scale = {case.scale}", f"offset = {case.offset}"])
