"""Run many flatbuffers in one runtime; started as a script, in a process of its own.

``python run_single_ops.py RUNTIME FOLDER NAME…`` reads ``FOLDER/NAME.tflite`` and
``FOLDER/NAME.npz`` (in0, in1, …) and prints one JSON object a line as it goes: the name when it
begins, then the name and what went wrong or null. The outputs go to
``FOLDER/NAME.RUNTIME.npy``. A crash ends the process; whoever reads knows where it was.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np


def lite(interpreter: Any, content: bytes, stacks: list[np.ndarray]) -> np.ndarray:
    """The first output of each sample, by the API that LiteRT and tflite-runtime share."""
    session = interpreter(model_content=content, num_threads=1)
    session.allocate_tensors()
    indices = [detail["index"] for detail in session.get_input_details()]
    outputs = []
    for sample in zip(*stacks):  # noqa: B905 - the arrays are of one length
        for index, value in zip(indices, sample):  # noqa: B905
            session.set_tensor(index, value)
        session.invoke()
        outputs.append(session.get_tensor(session.get_output_details()[0]["index"]))
    return np.stack(outputs)


def micro(interpreter: Any, content: bytes, stacks: list[np.ndarray]) -> np.ndarray:
    """The first output of each sample, by TFLM."""
    session = interpreter.from_bytes(content, arena_size=16 << 20)
    outputs = []
    for sample in zip(*stacks):  # noqa: B905
        for place, value in enumerate(sample):
            session.set_input(value, place)
        session.invoke()
        outputs.append(np.array(session.get_output(0)))
    return np.stack(outputs)


def main(runtime: str, folder: Path, names: list[str]) -> None:
    if runtime == "litert":
        from ai_edge_litert.interpreter import Interpreter as interpreter
    elif runtime == "tflite-runtime":
        from tflite_runtime.interpreter import Interpreter as interpreter
    else:
        from tflite_micro import runtime as tflm

        interpreter = tflm.Interpreter
    for name in names:
        print(json.dumps({"name": name}), flush=True)
        with np.load(folder / f"{name}.npz") as archive:
            stacks = [archive[key] for key in sorted(archive.files)]
        content, error = (folder / f"{name}.tflite").read_bytes(), None
        with tempfile.TemporaryFile() as complaints:
            os.dup2(complaints.fileno(), 2)  # TFLM says there what is wrong, not in its exception
            try:
                outputs = (micro if runtime == "tflm" else lite)(interpreter, content, stacks)
                np.save(folder / f"{name}.{runtime}.npy", outputs)
            except (RuntimeError, ValueError) as refusal:
                complaints.seek(0)
                said = complaints.read().decode() if runtime == "tflm" else ""
                error = said.strip() or str(refusal).strip() or type(refusal).__name__
        print(json.dumps({"name": name, "error": error}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
