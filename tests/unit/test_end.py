"""The process ends with its own code even if Ctrl-C came while some code was being compiled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from edgepack.__main__ import end
try:
    exec("raise KeyboardInterrupt")
except KeyboardInterrupt:
    {}(130)
"""


def code(leave: str, folder: Path) -> int:
    """How a process ends that catches the interrupt of an ``exec`` and leaves so."""
    (folder / "program.py").write_text(PROGRAM.format(leave))
    return subprocess.run([sys.executable, "-m", "program"], cwd=folder, check=False).returncode


def test_an_interrupted_exec_does_not_change_the_exit_code(tmp_path):
    assert code("sys.exit", tmp_path) == -2  # CPython's trap, or else this test shows nothing
    assert code("end", tmp_path) == 130
