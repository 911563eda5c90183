"""The runner's program by itself: built with sanitizers, asked as the runner asks it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgepack.runners.litert_native import DTYPES
from edgepack.runners.replies import Output, unpacked
from edgepack.runtimes import building, native_library
from tests.needs import needs


def can_build(arch: str) -> None:
    """Go on where this machine can build the program for an arch; see ``needs``."""
    chosen = building.toolchain(arch)
    there = shutil.which("cmake") is not None and shutil.which(chosen.compiler) is not None
    needs(there, f"install the packages cmake make {chosen.packages} {chosen.libraries}")


@dataclass(frozen=True, kw_only=True)
class Program:
    """The program, and a folder for its files."""

    path: Path
    folder: Path

    def run(self, *arguments: str) -> tuple[dict[str, Any], int, str]:
        """(its reply, its code, what it said beside it); stdout holds one line and no more."""
        done = subprocess.run(
            [str(self.path), *arguments], capture_output=True, timeout=60, check=False
        )
        said = done.stderr.decode(errors="replace")
        assert "runtime error" not in said, said
        assert "Sanitizer" not in said, said
        assert done.stdout.count(b"\n") == 1, (done, said)
        reply = json.loads(done.stdout)
        assert (done.returncode != 0) == ("error" in reply)
        return reply, done.returncode, said

    def ask(
        self, model: bytes, samples: Sequence[NDArray[Any]], /, **options: object
    ) -> tuple[dict[str, Any], list[NDArray[Any]]]:
        """(its reply to a model and stacked samples, the outputs)."""
        (self.folder / "model.tflite").write_bytes(model)
        (self.folder / "in.raw").write_bytes(b"".join(stack.tobytes() for stack in samples))
        count = len(samples[0]) if samples else 1
        chosen = {
            "library": native_library.library(building.here()),
            "model": self.folder / "model.tflite",
            "inputs": self.folder / "in.raw",
            "outputs": self.folder / "out.raw",
            "samples": count,
            **options,
        }
        kinds = [f"input={stack.dtype}:{','.join(map(str, stack.shape[1:]))}" for stack in samples]
        reply, _, _ = self.run(*kinds, *(f"{name}={value}" for name, value in chosen.items()))
        if "error" in reply:
            return reply, []
        kinds_of = [Output(dtype=o["dtype"], shape=tuple(o["shape"])) for o in reply["outputs"]]
        return reply, unpacked((self.folder / "out.raw").read_bytes(), kinds_of, count, DTYPES)


def sanitized(folder: Path) -> Program:
    """The program for this machine, which stops at undefined behaviour and bad accesses."""
    can_build(building.here())
    compiler = building.tool(building.toolchain(building.here()).compiler, "")
    made = building.build(folder, compiler, building.here(), "", "-DSANITIZE=ON")
    return Program(path=made, folder=folder)
