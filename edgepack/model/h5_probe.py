"""Read an HDF5 file in a process of its own first: damaged ones can hang or crash the library."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from edgepack.errors import ModelError
from edgepack.model import archive

DEADLINE_S = 20
BYTES_PER_S = 5_000_000


def probe(path: Path, kind: str) -> None:
    """Let a child read all of a ``.h5`` file, or of the weights in a ``.keras`` archive.

    Raises ModelError for what the checks of ``archive`` refuse, and where the child crashes or
    does not come to an end.
    """
    command = [sys.executable, "-m", "edgepack.model.h5_probe", str(path.resolve()), kind]
    deadline = DEADLINE_S + path.stat().st_size / BYTES_PER_S
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=deadline, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise ModelError(f"{path}: damaged: reading it does not end", archive.AGAIN) from exc
    if done.returncode == 0:
        return
    try:
        message, hint = json.loads(done.stdout)
    except ValueError as exc:
        raise ModelError(f"{path}: damaged: reading it fails", archive.AGAIN) from exc
    raise ModelError(message.replace(str(path.resolve()), str(path)), hint)


def read_all(file: Any) -> None:
    """Read every attribute and data set of an HDF5 file, then forget them."""

    def visit(_: str, item: Any) -> None:
        dict(item.attrs)
        if hasattr(item, "shape"):
            item[()]

    dict(file.attrs)
    file.visititems(visit)


def main(arguments: list[str]) -> int:
    """Read the file; a refusal as JSON on stdout and 1."""
    path, kind = Path(arguments[0]), arguments[1]
    try:
        if kind == "h5":
            with archive.opened_h5(path) as file:
                read_all(file)
            return 0
        archive.keras_config(path)
        import h5py

        with zipfile.ZipFile(path) as members:
            for name in members.namelist():
                if name.endswith(".h5"):
                    with h5py.File(io.BytesIO(members.read(name)), "r") as file:
                        read_all(file)
    except ModelError as error:
        sys.stdout.write(json.dumps([error.message, error.hint]))
        return 1
    except Exception as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        sys.stdout.write(json.dumps([f"{path}: damaged: {line}", archive.AGAIN]))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
