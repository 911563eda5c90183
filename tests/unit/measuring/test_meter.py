"""A meter's program: a real one, and all that a program can do wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from edgepack.errors import MeasureError
from edgepack.measuring import meter
from edgepack.measuring.meter import CommandMeter

GOOD = "print('ready', flush=True); sys.stdin.read(); print(2.5)"


def program(folder: Path, text: str) -> list[str]:
    """A program with an argument that a shell would take apart."""
    path = folder / "a meter; exit 1 $(x).py"
    path.write_text(f"import sys\nassert sys.argv[1] == '$(port) \"1\"'\n{text}\n")
    return [sys.executable, str(path), '$(port) "1"']


def counted(counting: CommandMeter) -> float:
    counting.start()
    return counting.stop()


def is_alone() -> bool:
    """Whether none of this process's children is a meter."""
    return not [
        child
        for child in psutil.Process().children()
        if any("a meter" in w for w in child.cmdline())
    ]


def test_a_program_counts_from_ready_until_its_stdin_ends(tmp_path: Path) -> None:
    counting = CommandMeter(program(tmp_path, GOOD))
    counting.start()
    assert counting.stop() == 2.5
    assert is_alone()
    with pytest.raises(MeasureError, match="was not started"):
        counting.stop()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("print('soon', flush=True); sys.stdin.read()", "said 'soon' where it should be ready"),
        ("sys.exit('no such port')", "where it should be ready: no such port"),
        (GOOD.replace("2.5", "'2,5 J'"), "said '2,5 J' and ended with code 0"),
        (GOOD.replace("2.5", "'nan'"), "said 'nan'"),
        (GOOD.replace("2.5", "-1"), "said '-1'"),
        (GOOD + "; sys.exit(3)", "said '2.5' and ended with code 3"),
        ("sys.stderr.write('x' * 1000000); " + GOOD.replace("2.5", "''"), "said '' and ended"),
    ],
)
def test_what_a_program_does_wrong_is_told(tmp_path: Path, text: str, words: str) -> None:
    counting = CommandMeter(program(tmp_path, text))
    with pytest.raises(MeasureError) as caught:
        counted(counting)
    assert words in caught.value.message
    assert "ready" in caught.value.hint
    assert is_alone()


@pytest.mark.parametrize("text", ["import time; time.sleep(600)", GOOD + "; sys.stdout.flush(); "
                                  "import time; time.sleep(600)"])  # fmt: skip
def test_a_program_that_hangs_is_ended(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter, "ANSWER_SECONDS", 2.0)
    counting = CommandMeter(program(tmp_path, text))
    with pytest.raises(MeasureError, match="said nothing for 2 s"):
        counted(counting)
    assert is_alone()


@pytest.mark.parametrize("name", ["/no/such/program", "a\0b"])
def test_a_program_that_is_not_there(name: str) -> None:
    with pytest.raises(MeasureError, match="does not start"):
        CommandMeter([name]).start()
