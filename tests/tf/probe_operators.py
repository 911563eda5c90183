"""Ask one runtime which builtin operators it knows; started as a script, in its own process.

``python probe_operators.py RUNTIME FOLDER`` offers it each ``FOLDER/OPERATOR.VERSION.tflite``,
models of that operator without its options, and prints a JSON list of the names for which it
did not say that it has no such operator. Each is tried in a forked process: some crash, which
says that the operator is there.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MISSING = (
    b"Didn't find op",
    b"Op builtin_code out of range",
    b"Encountered unresolved custom op",
    b"Select TensorFlow op",
    b"Failed to get registration",
)


def opener(runtime: str) -> Callable[[bytes], Any]:
    """What opens a model's bytes in the runtime, imported already."""
    if runtime == "litert":
        from ai_edge_litert.interpreter import Interpreter

        return lambda content: Interpreter(model_content=content).allocate_tensors()
    if runtime == "tflite-runtime":
        from tflite_runtime.interpreter import Interpreter

        return lambda content: Interpreter(model_content=content).allocate_tensors()
    import tflite_micro

    return lambda content: tflite_micro.runtime.Interpreter.from_bytes(content, arena_size=100_000)


def complaint(opened: Callable[[bytes], Any], content: bytes) -> bytes:
    """All that a forked process wrote while it opened the model."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        os.dup2(writer, 2)
        try:
            opened(content)
        except Exception as error:
            os.write(2, str(error).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    os.waitpid(process, 0)
    return said


def main(runtime: str, folder: Path) -> None:
    opened = opener(runtime)
    known = set()
    for path in folder.glob("*.tflite"):
        said = complaint(opened, path.read_bytes())
        if not any(words in said for words in MISSING):
            known.add(path.name.split(".")[0])
    print(json.dumps(sorted(known)))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
