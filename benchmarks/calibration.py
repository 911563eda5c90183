"""Calibration memory while the calibration set grows ten times: goal flat (at most 1.05×)."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.reference import reference_data
from benchmarks.timing import cores, line, run, verdict

SAMPLES = 1000


def main() -> None:
    """Print the peak memory of packing with a set and with one ten times as large."""
    data = reference_data()
    with np.load(data / "sets/cifar10_train_4660.npz") as archive:
        images = archive["x"]
    runs = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for times in (1, 10):
            count = SAMPLES * times
            chosen = np.resize(images, (count, *images.shape[1:]))
            np.savez(folder / f"{count}.npz", x=chosen)
            description = folder / f"calibration-{count}.toml"
            description.write_text(f'source = "npz"\npath = "{count}.npz"\nx = "x"\n')
            argv = [sys.executable, "-m", "edgepack", "pack"]
            argv += [str(data / "models/mlperf_ic_resnet8.h5"), "--recipe", "int8"]
            argv += ["--target", "generic-linux-x86_64", "-o", str(folder / f"out-{count}")]
            runs.append(run([*argv, "--calibration", str(description)], tree=True))
    print(f"calibrate ResNet8, {cores()}")
    for times, found in zip((1, 10), runs, strict=True):
        print(line(f"{SAMPLES * times} samples", [found]))
    print(verdict("peak memory at ten times", runs[1].peak_bytes / runs[0].peak_bytes, 1.05))


if __name__ == "__main__":
    main()
