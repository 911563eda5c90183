"""Latencies of many flatbuffers side by side: short bursts in turn, so that noise hits all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROUNDS, BURST_S = 15, 0.02


def interleaved_us(paths: Sequence[Path]) -> dict[Path, float]:
    """The median over rounds of each file's median in a burst, in µs, on one thread."""
    from ai_edge_litert.interpreter import Interpreter

    runs = {}
    for path in paths:
        lite = Interpreter(model_path=str(path), num_threads=1)
        lite.allocate_tensors()
        rng = np.random.default_rng(0)
        for detail in lite.get_input_details():
            shape, dtype = detail["shape"], detail["dtype"]
            values = rng.normal(0, 0.3, shape) * (1 if dtype == np.float32 else 100)
            lite.set_tensor(detail["index"], values.astype(dtype))
        lite.invoke()
        runs[path] = lite
    found: dict[Path, list[float]] = {path: [] for path in paths}
    for _ in range(ROUNDS):
        for path, lite in runs.items():
            found[path].append(_burst_us(lite))
    return {path: statistics.median(each) for path, each in found.items()}


def _burst_us(lite: object) -> float:
    samples: list[float] = []
    end = time.perf_counter() + BURST_S
    while time.perf_counter() < end:
        started = time.perf_counter_ns()
        lite.invoke()  # type: ignore[attr-defined]
        samples.append((time.perf_counter_ns() - started) / 1e3)
    return statistics.median(samples)
