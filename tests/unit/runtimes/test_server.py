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

    def run(
        text: str, *arguments: str, timeout_s: float = 30, own: int = 0
    ) -> tuple[int, str, str]:
        script = tmp_path / f"{abs(hash(text))}.py"
        script.write_text(text)
        out, err = (tmp_path / f"{name}{own or ''}" for name in ("out", "err"))
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


def soon_gone(pid: int) -> bool:
    """Whether a process ends within seconds: a signal takes its time."""
    for _ in range(200):
        if gone(pid):
            return True
        time.sleep(0.02)
    return False


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
    assert soon_gone(int((tmp_path / "out").read_text()))
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


def test_threads_are_answered_at_one_time(ask):
    found = []
    wait = "import sys, time; time.sleep(1); print(sys.argv[1])"
    began = time.monotonic()
    threads = [
        threading.Thread(target=lambda n=n: found.append((str(n), ask(wait, str(n), own=n)[1])))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [(str(n), f"{n}\n") for n in range(4)]
    assert time.monotonic() - began < 3.5


def test_a_second_interrupt_leaves_nothing_out_of_step(ask, monkeypatch):
    numbers = server.Server._number

    def interrupted(self, deadline):
        if deadline - time.monotonic() < server.PATIENCE_S + 1:
            raise KeyboardInterrupt
        return numbers(self, deadline)

    seconds = server.PATIENCE_S + 1.5
    with pytest.raises(TimeoutError):
        ask("import time; time.sleep(300)", timeout_s=seconds)
    monkeypatch.setattr(server.Server, "_number", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask("import time; time.sleep(300)", timeout_s=seconds)
    monkeypatch.undo()
    assert [ask(f"print({n})") for n in range(3)] == [(0, f"{n}\n", "") for n in range(3)]


def test_a_fork_of_the_owner_has_servers_of_its_own(ask):
    """Also where another thread was asking as it forked."""
    thread = threading.Thread(target=lambda: ask("import time; time.sleep(2)", own=1))
    thread.start()
    time.sleep(0.5)
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if ask("print(5)", own=2)[1] == "5\n" else 1)
        finally:
            os._exit(2)
    thread.join()
    assert os.waitpid(pid, 0)[1] == 0


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


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_an_owner_that_was_killed_in_the_middle(how, tmp_path):
    script = tmp_path / "s.py"
    script.write_text(
        "import os, time; print(os.getppid(), os.getpid(), flush=True)\nwhile True: time.sleep(9)"
    )
    code = (
        "import sys\nfrom pathlib import Path\nfrom edgepack.runtimes import server\n"
        "server.run(sys.executable, 'wave', {}, [sys.argv[1]], stdout=Path(sys.argv[2]),"
        " stderr=Path(sys.argv[2] + 'e'), timeout_s=300)\n"
    )
    out = tmp_path / "o"
    with subprocess.Popen([sys.executable, "-c", code, str(script), str(out)]) as owner:
        while not out.is_file() or not out.read_text():
            time.sleep(0.02)
        pids = [int(pid) for pid in out.read_text().split()]
        owner.send_signal(how)
        owner.wait()
    assert all(soon_gone(pid) for pid in pids)
