"""The agent's median latency against a tight loop in the same runtime: goal within 3 %."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

from benchmarks.reference import reference_data
from benchmarks.timing import cores

MODELS = ("mlperf_ic_int8", "mlperf_ic_float", "mlperf_kws_int8", "mlperf_ad_int8")
ROUNDS = 7


def main() -> None:
    """Print both medians for each model, A B A B …, and the median of the paired ratios."""
    data = reference_data()
    print(f"agent against a tight loop, LiteRT, 1 thread, {cores()}, {ROUNDS} interleaved rounds")
    for name in MODELS:
        path = str(data / "models" / f"{name}.tflite")
        ours, bare = [], []
        for _ in range(ROUNDS):
            bare.append(float(_out([sys.executable, "-m", "benchmarks.tight_loop", path, "1"])))
            argv = [sys.executable, "-m", "edgepack", "measure", path]
            found = json.loads(_out([*argv, "--device", "this-machine", "--json"]))[0]
            ours.append(found["latency_us"]["p50"])
        ratios = sorted(a / b for a, b in zip(ours, bare, strict=True))
        ratio = statistics.median(ratios)
        met = "met" if abs(ratio - 1) <= 0.03 else f"missed by {abs(ratio - 1) - 0.03:.3f}"
        print(
            f"{name:<18} agent {statistics.median(ours):8.1f} µs  loop "
            f"{statistics.median(bare):8.1f} µs  ratio {ratio:.3f} "
            f"({ratios[0]:.3f} to {ratios[-1]:.3f}; goal within 3 %: {met})"
        )


def _out(argv: list[str]) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
