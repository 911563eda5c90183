"""Scripts in forks of a process that has imported a module already."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgepack.runtimes import server


@pytest.fixture
def ask(tmp_path: Path):
    """Run a script's text in a fork of a Python that has ``wave``; its code and its outputs."""

    def run(text: str, *arguments: str, timeout_s: float = 30) -> tuple[int, str, str]:
        script = tmp_path / f"{abs(hash(text))}.py"
        script.write_text(text)
        out, err = tmp_path / "out", tmp_path / "err"
        code = server.run(
            sys.executable, "wave", {"SAID": "hello"}, [str(script), *arguments],
            stdout=out, stderr=err, timeout_s=timeout_s,
        )  # fmt: skip
        return code, out.read_text(), err.read_text()

    return run


def gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except FileNotFoundError:
        return True


def test_a_script_finds_what_a_process_of_its_own_has(ask):
    code, out, err = ask(
        "import os, sys\n"
        "print(sys.argv[1:], 'wave' in sys.modules, os.environ['SAID'], __name__)\n"
        "print(repr(sys.stdin.read()), os.getpgid(0) == os.getpid(), file=sys.stderr)",
        "a b", "ü",
    )  # fmt: skip
    assert (code, out, err) == (0, "['a b', 'ü'] True hello __main__\n", "'' True\n")


def test_scripts_share_one_server_and_no_process(ask):
    pids = [ask("import os; print(os.getppid(), os.getpid())")[1].split() for _ in range(3)]
    assert len({parent for parent, _ in pids}) == 1
    assert len({own for _, own in pids}) == 3


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("raise SystemExit(7)", 7, ""),
        ("raise SystemExit", 0, ""),
        ("raise SystemExit('so')", 1, ""),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import os; os.abort()", -signal.SIGABRT, ""),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
    ],
)
def test_how_it_ended_is_told(ask, text, code, words):
    found, _, err = ask(text)
    assert found == code
    assert words in err
    assert ask("print(1)") == (0, "1\n", "")


def test_a_deadline_ends_the_script_and_what_it_started(ask, tmp_path):
    text = (
        "import subprocess, sys, time\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])\n"
        "print(other.pid, flush=True); time.sleep(300)"
    )
    with pytest.raises(TimeoutError):
        ask(text, timeout_s=3)
    assert gone(int((tmp_path / "out").read_text()))
    assert ask("print(2)") == (0, "2\n", "")


def test_a_server_that_was_killed_is_started_again(ask):
    parent = int(ask("import os; print(os.getppid())")[1])
    os.kill(parent, signal.SIGKILL)
    while not gone(parent):
        time.sleep(0.01)
    assert ask("print(3)") == (0, "3\n", "")


def test_a_server_that_dies_meanwhile_ends_the_request(ask):
    code, _, _ = ask("import os; os.kill(os.getppid(), 9)")
    assert code == -signal.SIGKILL


def test_threads_wait_for_each_other(ask):
    found = []
    threads = [
        threading.Thread(target=lambda n=n: found.append((n, ask(f"print({n})")[1])))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4


def test_it_ends_with_its_owner(tmp_path):
    script = tmp_path / "s.py"
    script.write_text("import os; print(os.getppid())")
    code = (
        "import sys\nfrom pathlib import Path\nfrom edgepack.runtimes import server\n"
        "server.run(sys.executable, 'wave', {}, [sys.argv[1]], stdout=Path(sys.argv[2]),"
        " stderr=Path(sys.argv[2] + 'e'), timeout_s=30)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(script), str(tmp_path / "o")], check=True)
    assert gone(int((tmp_path / "o").read_text()))
