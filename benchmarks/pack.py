"""``edgepack pack`` of ResNet8 to int8 against a bare script that does the same.

Goals: wall time at most 1.2×, peak memory of the process tree at most 1.1×.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.descriptions import describe
from benchmarks.reference import reference_data
from benchmarks.timing import cores, interleaved, line, verdict


def main(repeats: int = 3) -> None:
    """Print both, and their ratios."""
    data = reference_data()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, calibration, evaluation = describe("resnet8", data, folder)
        bare = [
            sys.executable,
            "-m",
            "benchmarks.bare_int8",
            str(data),
            str(folder / "bare.tflite"),
        ]
        ours = [sys.executable, "-m", "edgepack", "pack"]
        ours += [str(model)]
        ours += ["--target", "generic-linux-x86_64", "--recipe", "int8", "-o", str(folder / "out")]
        ours += ["--calibration", str(calibration), "--evaluation", str(evaluation)]
        runs = interleaved({"bare script": bare, "edgepack pack": ours}, repeats, tree=True)
    print(f"pack ResNet8 to int8, {cores()}")
    for label, found in runs.items():
        print(line(label, found))
    seconds = [statistics.median(r.seconds for r in found) for found in runs.values()]
    peaks = [statistics.median(r.peak_bytes for r in found) for found in runs.values()]
    print(verdict("wall time", seconds[1] / seconds[0], 1.2))
    print(verdict("peak memory", peaks[1] / peaks[0], 1.1))


if __name__ == "__main__":
    main()
