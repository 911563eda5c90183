"""Everything that goes wrong with a device behind SSH, through the whole command line.

The servers, the runners and what they run on are real; between them stands ``tests.proxy``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgepack.links import adb, ssh
from edgepack.runtimes import building
from edgepack.spec.device import Device
from tests.faults import LARGE, Case, Site, holds, runners, sited
from tests.native_program import can_build
from tests.proxy import Proxy, forwarding
from tests.sshd import Sshd, free_port, new_key, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

Made = contextlib.AbstractContextManager[Device]
SLOW = {"connect_seconds": 2.0, "call_seconds": 2.0}
"""Deadlines of what freezes."""
HANDSHAKE, TRANSFER, ANSWER = 600, 1_000_000, 200_000
"""Bytes after which a connection is being opened, a file is sent, an output is fetched."""


@contextlib.contextmanager
def plain(site: Site, change: Callable[[Site, Device], Device]) -> Iterator[Device]:
    yield change(site, site.ssh())


def changed(change: Callable[[Site, Device], Device]) -> Callable[[Site], Made]:
    """A device whose description is wrong."""
    return lambda site: plain(site, change)


def options(site: Site, device: Device, **chosen: object) -> Device:
    return replace(device, options=replace(device.options, **chosen))  # type: ignore[arg-type]


def empty_file(site: Site) -> str:
    (site.folder / "nobody").write_text("")
    return str(site.folder / "nobody")


def other_host_key(site: Site, device: Device) -> Device:
    public = new_key(site.folder / "other").with_suffix(".pub").read_text()
    known = site.folder / "changed"
    known.write_text(f"[127.0.0.1]:{site.server.port} {public}")
    return options(site, device, known_hosts=str(known))


def taken_folder(site: Site, device: Device) -> Device:
    site.workspace.mkdir()
    os.chown(site.workspace, 12345, 12345)
    return device


def proxied(
    arrange: Callable[[Site, Proxy], object], target: str = "quick", **chosen: object
) -> Callable[[Site], Made]:
    """A device behind a network that fails as it is arranged."""

    @contextlib.contextmanager
    def make(site: Site) -> Iterator[Device]:
        with forwarding(site.server.port) as proxy:
            arrange(site, proxy)
            yield replace(site.ssh(proxy.port, **chosen), target=target)

    return make


def greeted(greeting: bytes) -> Callable[[Site], Made]:
    return proxied(lambda site, proxy: setattr(proxy, "greeting", greeting))


def served(*lines: str, target: str = "quick", **chosen: object) -> Callable[[Site], Made]:
    """A device whose server is configured in an odd way."""

    @contextlib.contextmanager
    def make(site: Site) -> Iterator[Device]:
        tools = site.folder / "tools"
        written = [line.format(tools=tools) for line in lines]
        with serving(site.folder / "odd", *written) as server:
            yield replace(site.ssh(server=server, **chosen), target=target)

    return make


@contextlib.contextmanager
def rebooted(site: Site) -> Iterator[Device]:
    with serving(site.folder / "odd") as server:
        site.when_running(server.kill)
        yield replace(site.ssh(server=server), target="endless")


def signalled(number: int, target: str, **chosen: object) -> Callable[[Site], Made]:
    """A device on which something sends a signal to the runner."""

    @contextlib.contextmanager
    def make(site: Site) -> Iterator[Device]:
        def send() -> None:
            for pid in runners(site.workspace):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

        site.when_running(send)
        yield replace(site.ssh(**chosen), target=target)

    return make


def wrapped(script: str, only: str = "*agent.py") -> Callable[[Site], Made]:
    """A device whose Python is a script that meddles with the agent: ``run`` is the real one."""

    @contextlib.contextmanager
    def make(site: Site) -> Iterator[Device]:
        path = site.folder / "python3"
        path.write_text(
            f'#!/bin/sh\nrun() {{ {sys.executable} "$@"; }}\n'
            f'case "$1" in {only}) ;; *) run "$@"; exit;; esac\n'
            'request=$(cat)\ncase "$request" in *probe*) printf %s "$request" | run "$@"; exit;; '
            f"esac\n{script}\n"
        )
        path.chmod(0o755)
        yield site.ssh(python=str(path))

    return make


@contextlib.contextmanager
def without_tools(site: Site) -> Iterator[Device]:
    """A device that lacks what is not in every busybox."""
    tools = site.folder / "tools"
    tools.mkdir()
    lacking = {"sha256sum", "df", "flock", "getconf", "nproc", "dpkg", "od"}
    for folder in ("/bin", "/usr/bin"):
        for path in Path(folder).iterdir():
            if path.name not in lacking and not (tools / path.name).exists():
                (tools / path.name).symlink_to(path)
    with served('ForceCommand export PATH={tools}; eval "$SSH_ORIGINAL_COMMAND"')(site) as device:
        yield device


HOLD = (
    "import sys, time\nfrom edgepack.links.alone import alone\n"
    "from edgepack.links.local import LocalLink\n"
    "with alone(LocalLink(), sys.argv[1], timeout_s=20, wait_s=0) as held:\n"
    "    print('held', flush=True)\n"
    "    held.run(['sleep', '60'], timeout_s=60)\n"
)


def occupied(*, killed: bool) -> Callable[[Site], Made]:
    """A device that another edgepack measures on, or did until it was killed."""

    @contextlib.contextmanager
    def make(site: Site) -> Iterator[Device]:
        argv = [sys.executable, "-c", HOLD, str(site.workspace)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            while not runners(site.workspace):
                time.sleep(0.01)
            if killed:
                other.kill()
                other.wait()
            yield site.ssh()
            other.send_signal(signal.SIGINT)

    return make


def at_work(act: str, *arguments: object) -> Callable[[Site, Proxy], None]:
    """Do something to the network once the runner is at work."""
    return lambda site, proxy: site.when_running(lambda: getattr(proxy, act)(*arguments))


def beyond(way: str, count: int, act: str, *arguments: object) -> Callable[[Site, Proxy], None]:
    """Do something to the network once so many bytes went one way."""
    return lambda site, proxy: proxy.after(  # type: ignore[arg-type]
        way, count, lambda: getattr(proxy, act)(*arguments)
    )


LOST, UP, TIME = "lost the connection to faulty", "check that the device is up", "did not finish"
NO_SSH = "does not answer as an SSH server does"


def row(name: str, make: Callable[[Site], Made], seconds: float, error: str, hint: str) -> Case:
    """A device that cannot be reached or used, on which nothing happens."""
    return Case(name=name, make=make, seconds=seconds, error=error, hint=hint)


def lost(name: str, make: Callable[[Site], Made], seconds: float, error: str, hint: str) -> Case:
    """A device that is lost, and is cleaned when it is measured the next time."""
    return replace(row(name, make, seconds, error, hint), again=Site.ssh)


def failed(name: str, make: Callable[[Site], Made], error: str, hint: str = "") -> Case:
    """A device that is reached, and measures nothing."""
    return Case(
        name=name, make=make, seconds=10, error=error, hint=hint, status="failed", code=6,
        runner="litert-python",
    )  # fmt: skip


def fine(name: str, make: Callable[[Site], Made]) -> Case:
    """What looks like a fault, and is none."""
    return Case(name=name, make=make, seconds=10, status="ok", code=0)


def native(case: Case) -> Case:
    return replace(case, runner="litert-native")


def large(case: Case) -> Case:
    return replace(case, size=LARGE)


CASES = [
    row("refused", changed(lambda s, d: replace(d, address=f"127.0.0.1:{free_port()}")), 5,
        "nothing answers", "is the device on"),
    row("wrong-key", changed(lambda s, d: options(s, d, key=str(new_key(s.folder / "wrong")))), 5,
        "refused to let you in", "options.key"),
    row("unknown-host", changed(lambda s, d: options(s, d, known_hosts=empty_file(s))), 5,
        "is not known (ssh-ed25519 SHA256:", "ssh-keyscan -p"),
    row("changed-host-key", changed(other_host_key), 5, "has CHANGED", "ssh-keygen -R"),
    row("no-such-name", changed(lambda s, d: replace(d, address="no-such-host.invalid")), 15,
        "cannot be resolved", "IP address"),
    row("banner-never-comes", proxied(lambda s, p: p.freeze(), **SLOW), 6,
        "did not answer within 2 s", "connect_seconds"),
    fine("banner-comes-late", proxied(lambda s, p: setattr(p, "delay_s", 0.7))),
    row("http", greeted(b"HTTP/1.1 400 Bad Request\r\n\r\n"), 5, NO_SSH, "port"),
    row("garbage", greeted(bytes(range(256)) * 64), 5, NO_SSH, "port"),
    row("cut-before-the-banner", proxied(beyond("down", 0, "cut")), 5, NO_SSH, "port"),
    row("cut-in-the-handshake", proxied(beyond("down", HANDSHAKE, "cut")), 5, NO_SSH, "port"),
    lost("cut-while-sending", proxied(beyond("up", TRANSFER, "cut")), 8, LOST, UP),
    lost("cut-while-running", proxied(at_work("cut"), "endless"), 10, LOST, UP),
    large(lost("cut-while-fetching", proxied(beyond("down", ANSWER, "cut")), 8, LOST, UP)),
    row("frozen-in-the-handshake", proxied(beyond("down", HANDSHAKE, "freeze"), **SLOW), 8,
        "did not answer within 2 s", "connect_seconds"),
    lost("frozen-while-sending", proxied(beyond("up", TRANSFER, "freeze"), **SLOW), 10,
        TIME, "call_seconds"),
    lost("frozen-while-running", proxied(at_work("freeze"), "second", **SLOW), 20,
        TIME, "call_seconds"),
    large(lost("frozen-while-fetching", proxied(beyond("down", ANSWER, "freeze"), **SLOW), 10,
              TIME, "call_seconds")),
    lost("half-open-up", proxied(beyond("up", TRANSFER, "lose", "up"), **SLOW), 10, "faulty", ""),
    lost("half-open-down", proxied(at_work("lose", "down"), "second", **SLOW), 20,
        TIME, "call_seconds"),
    lost("power-cut-while-running", rebooted, 10, LOST, UP),
    lost("disk-full", served('ForceCommand ulimit -f 64; eval "$SSH_ORIGINAL_COMMAND"'), 8,
        "cannot write", "options.workspace"),
    row("read-only", changed(lambda s, d: options(s, d, workspace="/proc/edgepack")), 5,
        "cannot use the folder /proc/edgepack", "options.workspace"),
    row("folder-of-another-user", changed(taken_folder), 5, "another user's", "options.workspace"),
    native(failed("out-of-memory",
                  served('ForceCommand ulimit -v 60000; eval "$SSH_ORIGINAL_COMMAND"'), "")),
    native(failed("runner-crashes", signalled(signal.SIGSEGV, "endless"), "crashed with SIGSEGV")),
    native(failed("runner-is-killed", signalled(signal.SIGKILL, "endless"), "want of memory")),
    row("runner-hangs", signalled(signal.SIGSTOP, "second", call_seconds=3.0), 15,
        TIME, "call_seconds"),
    failed("crash-with-5-MB-of-stderr",
           wrapped("head -c 5000000 /dev/zero | tr '\\0' x >&2\necho >&2\necho why >&2\nexit 9"),
           "ended with code 9: why"),
    replace(fine("5-MB-of-stderr", wrapped("head -c 5000000 /dev/zero >&2\n"
                                           'printf %s "$request" | run "$@"')),
            runner="litert-python"),
    failed("no-JSON", wrapped("cat >/dev/null </dev/null; echo '{]'"), "ended with code 0"),
    failed("JSON-of-other-types", wrapped("""echo '{"samples_us": ["x"], "outputs": 7}'"""),
           "ended with code 0"),
    failed("JSON-that-is-no-number", wrapped("""echo '{"samples_us": [NaN, -1]}'"""),
           "ended with code 0"),
    failed("state-that-is-no-JSON", wrapped("echo '[]'", "*state.py"), "does not run"),
    fine("talkative-login", served("ForceCommand printf 'Hi\\n$(id) \\033[2J\\nedgepack-0 1\\n'; "
                                   'echo "edgepack-1" >&2; eval "$SSH_ORIGINAL_COMMAND"')),
    row("login-that-runs-nothing", served("ForceCommand echo This account is closed"), 5,
        "ran no command", "POSIX sh"),
    fine("missing-tools", without_tools),
    row("in-use", occupied(killed=False), 8, "in use by", "/lock"),
    fine("lock-of-a-killed-edgepack", occupied(killed=True)),
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    can_build(building.here())
    with serving(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_fault_is_told_in_time_and_nothing_is_lost_or_left(
    case: Case,
    server: Sshd,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for link in (ssh, adb):
        monkeypatch.setattr(link, "KILL_SECONDS", 1.0)
    with sited(tmp_path, server, monkeypatch) as site:
        holds(site, case, capfd)
