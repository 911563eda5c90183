"""What edgepack keeps on a device: one lock, no leftovers, and files that are sent once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edgepack.errors import LinkError
from edgepack.links import alone as alone_module
from edgepack.links import cache
from edgepack.links.alone import alone
from edgepack.links.cache import delivered, free_bytes
from edgepack.links.link import Completed, Link, connect
from edgepack.spec.device import Device

HOLD = """
import sys, time
from pathlib import Path
from edgepack.links.alone import alone
from edgepack.links.local import LocalLink
with alone(LocalLink(), sys.argv[1], timeout_s=20, wait_s=0):
    Path(sys.argv[1], "job-left").mkdir()
    print("held", flush=True)
    time.sleep(300)
"""


@pytest.fixture
def root(device: Device, tmp_path: Path) -> str:
    return str(tmp_path / "work")


def other(root: str) -> subprocess.Popen[str]:
    """Another edgepack that holds the lock until it is ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, root], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lock_is_held_and_given_back(link: Link, root: str) -> None:
    with alone(link, root, timeout_s=20, wait_s=0):
        assert (Path(root) / "lock").is_symlink()
        with (
            pytest.raises(LinkError, match=f"in use by .*process {os.getpid()}") as caught,
            alone(link, root, timeout_s=20, wait_s=0),
        ):
            pass
        assert f"{root}/lock" in caught.value.hint
    assert list(Path(root).iterdir()) == []


def test_a_lock_is_waited_for(link: Link, device: Device, root: str) -> None:
    held, order = threading.Event(), []

    def first() -> None:
        own = connect(device)
        with alone(own, root, timeout_s=20, wait_s=0):
            held.set()
            time.sleep(1)
            order.append("first")
        own.close()

    thread = threading.Thread(target=first)
    thread.start()
    held.wait(20)
    with alone(link, root, timeout_s=20, wait_s=60):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


def test_what_a_killed_edgepack_left_is_taken_over_and_removed(link: Link, root: str) -> None:
    process = other(root)
    try:
        with (
            pytest.raises(LinkError, match=f"process {process.pid}"),
            alone(link, root, timeout_s=20, wait_s=0),
        ):
            pass
        assert (Path(root) / "job-left").is_dir()
    finally:
        process.kill()
        process.wait()
    with alone(link, root, timeout_s=20, wait_s=0):
        assert not (Path(root) / "job-left").exists()
    assert list(Path(root).iterdir()) == []


@pytest.mark.parametrize(
    "lock",
    [
        "another-boot 99999999999 me@far elsewhere 1 1",
        "{boot} 1 me@far elsewhere 1 1",
        "rubbish",
        "'; touch /tmp/edgepack-owned; '",
    ],
)
def test_a_lock_whose_time_is_up_is_taken_over(link: Link, root: str, lock: str) -> None:
    Path(root).mkdir(mode=0o700)
    (Path(root) / "lock").symlink_to(lock.format(boot=alone_module.machine()))
    with alone(link, root, timeout_s=20, wait_s=0):
        pass
    assert list(Path(root).iterdir()) == []


class Lost:
    """A link that breaks after a command, and takes no more."""

    def __init__(self, link: Link, calls: int) -> None:
        self._link, self.calls = link, calls

    def run(self, argv: Sequence[str], **options: Any) -> Completed:
        if self.calls <= 0:
            raise LinkError("lost")
        self.calls -= 1
        done = self._link.run(argv, **options)
        if self.calls == 0:
            raise LinkError("lost")
        return done


@pytest.mark.parametrize("calls", [1, 2])
def test_a_lock_that_this_process_lost_with_its_link_is_taken_over(
    link: Link, root: str, calls: int
) -> None:
    with (
        pytest.raises(LinkError, match="lost"),
        alone(Lost(link, calls), root, timeout_s=20, wait_s=0),  # type: ignore[arg-type]
    ):
        pass
    assert (Path(root) / "lock").is_symlink()
    with alone(link, root, timeout_s=20, wait_s=0):
        pass
    assert list(Path(root).iterdir()) == []


def test_what_a_lost_owner_had_started_is_ended(link: Link, device: Device, root: str) -> None:
    """Only that: what merely mentions it goes on."""
    with alone(link, root, timeout_s=20, wait_s=0) as held:
        argv = ["sh", "-c", "nohup sleep 300 >/dev/null 2>&1 </dev/null & echo $!"]
        left = int(held.run(argv, timeout_s=20).stdout)
        assert isinstance(held, alone_module.Held)
        words = "=".join(held.mark)
    with subprocess.Popen(["sleep", "300.0"], env={"NOTE": words[:-1]}) as other:
        with alone(link, root, timeout_s=20, wait_s=0):
            for _ in range(100):
                if not alone_module._started(left):
                    break
                time.sleep(0.05)
            assert not alone_module._started(left)
        assert other.poll() is None
        other.kill()


@pytest.mark.parametrize("flock", [True, False])
def test_a_dead_owners_lock_is_taken_over_by_one(tmp_path: Path, flock: bool) -> None:
    """By the very script that devices run, many at once."""
    root = tmp_path / "work"
    script = alone_module.TAKE if flock else alone_module.TAKE.replace("flock", "no-such-tool")
    for attempt in range(5):
        root.mkdir(mode=0o700)
        (root / "lock").symlink_to("another-boot 1 me@far elsewhere 1 1")
        argv = ["sh", "-c", script, "sh", str(root), "900"]
        racing = [
            subprocess.Popen([*argv, f"owner-{number}", ""], stdout=subprocess.PIPE)
            for number in range(12)
        ]
        codes = [process.wait(20) for process in racing]
        for process in racing:
            with process:
                pass
        if flock:
            assert codes.count(0) == 1, (attempt, codes)
            owner = f"owner-{codes.index(0)}"
            assert str((root / "lock").readlink()).endswith(owner)
        assert set(codes) <= {0, alone_module.TAKEN}
        assert [path.name for path in root.iterdir()] == ["lock"]
        shutil.rmtree(root)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_no_lock_is_told_at_once(link: Link, root: str, kind: str) -> None:
    Path(root).mkdir(mode=0o700)
    if kind == "folder":
        (Path(root) / "lock").mkdir()
    else:
        (Path(root) / "lock").write_text("")
    with (
        pytest.raises(LinkError, match="lock is no lock") as caught,
        alone(link, root, timeout_s=20, wait_s=60),
    ):
        pass
    assert "options.workspace" in caught.value.hint


def test_a_lock_that_leads_to_a_folder_is_not_written_into(link: Link, root: str) -> None:
    Path(root).mkdir(mode=0o700)
    (Path(root) / "inside").mkdir()
    (Path(root) / "lock").symlink_to("inside")
    with alone(link, root, timeout_s=20, wait_s=0):
        assert str((Path(root) / "lock").readlink()) != "inside"
    assert [path.name for path in Path(root).iterdir()] == ["inside"]
    assert list((Path(root) / "inside").iterdir()) == []


def test_a_lock_of_another_machine_is_left_until_its_time_is_up(link: Link, root: str) -> None:
    Path(root).mkdir(mode=0o700)
    words = f"{alone_module.machine()} 99999999999 me@far elsewhere 1 1"
    (Path(root) / "lock").symlink_to(words)
    with (
        pytest.raises(LinkError, match=r"in use by me@far \(process 1\)"),
        alone(link, root, timeout_s=20, wait_s=1),
    ):
        pass
    assert str((Path(root) / "lock").readlink()) == words


def test_a_lock_is_renewed_before_a_call_that_may_outlast_it(link: Link, root: str) -> None:
    with alone(link, root, timeout_s=20, wait_s=0) as held:
        before = str((Path(root) / "lock").readlink())
        held.run(["true"], timeout_s=20)
        assert str((Path(root) / "lock").readlink()) == before
        held.run(["true"], timeout_s=5000)
        after = str((Path(root) / "lock").readlink())
        assert int(after.split()[1]) >= int(before.split()[1]) + 4000
    assert list(Path(root).iterdir()) == []


def test_a_lock_that_was_lost_ends_the_measurement(link: Link, root: str) -> None:
    with alone(link, root, timeout_s=20, wait_s=0) as held:
        (Path(root) / "lock").unlink()
        (Path(root) / "lock").symlink_to("somebody else")
        with pytest.raises(LinkError, match="lock on the device was lost"):
            held.run(["true"], timeout_s=5000)
    assert str((Path(root) / "lock").readlink()) == "somebody else"


def test_a_file_is_sent_once(link: Link, root: str, tmp_path: Path) -> None:
    local = tmp_path / "a $(model); .tflite"
    local.write_bytes(os.urandom(100_000))
    place = Path(delivered(link, root, local, timeout_s=20))
    assert place.read_bytes() == local.read_bytes()
    first = place.stat().st_ino
    assert Path(delivered(link, root, local, timeout_s=20)) == place
    assert place.stat().st_ino == first
    assert [path.name for path in (Path(root) / "cache").iterdir()] == [place.name]


@pytest.mark.parametrize("damage", [b"", b"x" * 100_000])
def test_a_file_that_is_damaged_there_is_sent_again(
    link: Link, root: str, tmp_path: Path, damage: bytes
) -> None:
    local = tmp_path / "model.tflite"
    local.write_bytes(os.urandom(100_000))
    place = Path(delivered(link, root, local, timeout_s=20))
    place.write_bytes(damage)
    delivered(link, root, local, timeout_s=20)
    assert place.read_bytes() == local.read_bytes()


def test_what_was_not_used_for_long_is_removed(link: Link, root: str, tmp_path: Path) -> None:
    local = tmp_path / "model.tflite"
    local.write_bytes(b"model")
    old = Path(delivered(link, root, local, timeout_s=20))
    folder = old.with_name("unpacked")
    folder.mkdir()
    (folder / "file").write_bytes(b"")
    long_ago = time.time() - (alone_module.KEPT_DAYS + 2) * 86400
    for path in (old, folder):
        os.utime(path, (long_ago, long_ago))
    local.write_bytes(b"another model")
    with alone(link, root, timeout_s=20, wait_s=0) as held:
        assert not old.exists()
        assert not folder.exists()
        new = Path(delivered(held, root, local, timeout_s=20))
        os.utime(new, (long_ago, long_ago))  # as a clock that is set in the middle of a job does
        local.write_bytes(b"a third")
        delivered(held, root, local, timeout_s=20)
        assert new.is_file()


def test_a_device_without_room_is_told_before_anything_is_sent(
    link: Link, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = tmp_path / "model.tflite"
    local.write_bytes(b"model")
    monkeypatch.setattr(cache, "MARGIN_BYTES", 10**18)
    with pytest.raises(LinkError, match=r"no room for model.tflite .* are free") as caught:
        delivered(link, root, local, timeout_s=20)
    assert "options.workspace" in caught.value.hint
    assert list((Path(root) / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("said", "free"),
    [
        ("Filesystem 1024-blocks Used Free Use% Mounted on\ntmpfs 10 4 6 40% /tmp\n", 6144),
        ("Filesystem 1K-blocks Used Available Use% Mounted on\n/dev/a-very-long-name\n"
         "      100 40 60 40% /data\n", 61440),
        ("df: no such thing", None),
        ("", None),
    ],
)  # fmt: skip
def test_what_df_says(said: str, free: int | None) -> None:
    assert free_bytes(said) == free
