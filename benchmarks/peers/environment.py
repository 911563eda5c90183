"""The peers' own environment: TFMOT is Keras 2 only and would take edgepack's Keras with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PACKAGES = ("tensorflow==2.21.0", "tf_keras==2.21.0", "tensorflow-model-optimization==0.8.1")


def peer_python(folder: Path) -> Path:
    """The Python of the environment in ``folder``, made at first use (about two minutes)."""
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        command = [str(python), "-m", "pip", "install", "--quiet", *PACKAGES]
        subprocess.run(command, check=True)
        done.touch()
    return python
