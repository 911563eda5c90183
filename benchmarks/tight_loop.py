"""The tightest loop that the same runtime allows: the peer of the agent's burst."""

from __future__ import annotations

import gc
import statistics
import sys
from time import perf_counter_ns

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def main(path: str, seconds: float) -> None:
    """Print the median of single inferences in microseconds."""
    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    given = interpreter.get_input_details()[0]
    interpreter.set_tensor(given["index"], np.zeros(given["shape"], given["dtype"]))
    invoke, samples = interpreter.invoke, []
    gc.disable()
    end = perf_counter_ns() + int(1.5 * seconds * 1e9)
    warm = perf_counter_ns() + int(0.5 * seconds * 1e9)
    while (before := perf_counter_ns()) < end:
        start = perf_counter_ns()
        invoke()
        took = perf_counter_ns() - start
        if before > warm:
            samples.append(took / 1e3)
    print(statistics.median(samples))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
