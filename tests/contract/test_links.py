"""Every link keeps every promise of the protocol."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgepack.errors import LinkError, LinkTimeout, RemoteCommandError
from edgepack.links.link import MAKE_FOLDER, Link, checked, connect, workspace
from edgepack.spec.device import Device

HOSTILE = [
    "plain",
    "",
    " ",
    "two words",
    "'single'",
    '"double"',
    "back\\slash",
    "$HOME `id` $(id)",
    "; rm -rf /nowhere &",
    "new\nline",
    "tab\there",
    "-rf",
    "--",
    "*?[a]{b,c}",
    "!history",
    "ünïcode ✓",
    "~root",
    "#comment",
    "a=b",
    "%s%n",
]


def test_streams_and_code_come_back(link: Link) -> None:
    done = link.run(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout_s=20)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")


@pytest.mark.parametrize("code", [0, 1, 2, 77, 126, 127, 255])
def test_exit_codes(link: Link, code: int) -> None:
    assert link.run(["sh", "-c", f"exit {code}"], timeout_s=20).returncode == code


def test_death_by_signal_is_128_plus_its_number(link: Link) -> None:
    assert link.run(["sh", "-c", "kill -ABRT $$"], timeout_s=20).returncode == 134


def test_a_program_that_is_not_there_is_127(link: Link) -> None:
    assert link.run(["/no/such/program"], timeout_s=20).returncode == 127
    assert link.run(["/no/such/program"], timeout_s=20, env={"A": "b"}).returncode == 127


def test_a_file_that_may_not_be_run_is_126(link: Link, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no program")
    assert link.run([str(tmp_path / "data")], timeout_s=20).returncode == 126


@pytest.mark.parametrize("argument", HOSTILE)
def test_arguments_arrive_literally(link: Link, argument: str) -> None:
    script = "import sys; sys.stdout.buffer.write(sys.argv[1].encode())"
    done = checked(link, [sys.executable, "-c", script, argument], timeout_s=20)
    assert done.stdout.decode() == argument


@pytest.mark.parametrize("value", HOSTILE)
def test_environment_arrives_literally(link: Link, value: str) -> None:
    script = "import os, sys; sys.stdout.buffer.write(os.environb[b'EP_TEST'])"
    argv = [sys.executable, "-c", script]
    assert checked(link, argv, timeout_s=20, env={"EP_TEST": value}).stdout.decode() == value


@pytest.mark.parametrize("size", [0, 1, 65536, 3_000_001])
def test_standard_input_is_binary_and_ends(link: Link, size: int) -> None:
    content = os.urandom(size)
    done = checked(link, ["sha256sum"], timeout_s=30, stdin=content)
    assert done.stdout.split()[0].decode() == hashlib.sha256(content).hexdigest()


def test_without_standard_input_a_reader_sees_its_end(link: Link) -> None:
    assert checked(link, ["cat"], timeout_s=20).stdout == b""


def test_a_program_that_does_not_read_its_input_is_no_error(link: Link) -> None:
    assert link.run(["sh", "-c", "exit 5"], timeout_s=30, stdin=bytes(4_000_000)).returncode == 5


def test_megabytes_on_both_streams_do_not_block(link: Link) -> None:
    script = (
        "import sys\n"
        "for _ in range(80):\n"
        "    sys.stderr.buffer.write(b'e' * 65536); sys.stdout.buffer.write(b'o' * 65536)\n"
    )
    done = checked(link, [sys.executable, "-c", script], timeout_s=60)
    assert done.stdout == b"o" * 80 * 65536
    assert done.stderr == b"e" * 80 * 65536


def test_a_deadline_ends_the_command_and_its_children(link: Link, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 300 & echo $! > {pids}; echo $$ >> {pids}; wait"
    with pytest.raises(LinkTimeout, match="within 1 s"):
        link.run(["sh", "-c", script], timeout_s=1)
    for pid in pids.read_text().split():
        for _ in range(100):
            if not _runs(pid):
                break
            time.sleep(0.05)
        assert not _runs(pid)
    assert link.run(["true"], timeout_s=20).returncode == 0


def _runs(pid: str) -> bool:
    """Whether a process is there and not merely waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("name", [name for name in HOSTILE if name.strip()])
@pytest.mark.parametrize("content", [b"", b"\x00\xff\r\n\x1a" * 3])
def test_files_of_any_name_travel_both_ways(
    link: Link, tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / "there").mkdir()
    local, back = tmp_path / "local", tmp_path / "back"
    remote = str(tmp_path / "there" / name.replace("/", "_"))
    local.write_bytes(content)
    link.put(local, remote, timeout_s=20)
    assert [path.name for path in (tmp_path / "there").iterdir()] == [Path(remote).name]
    link.get(remote, back, timeout_s=20)
    assert back.read_bytes() == content


def test_a_large_file_travels_both_ways_and_replaces(link: Link, tmp_path: Path) -> None:
    local, remote, back = tmp_path / "local", tmp_path / "remote", tmp_path / "back"
    remote.write_bytes(b"old")
    back.write_bytes(b"old")
    local.write_bytes(os.urandom(20_000_003))
    link.put(local, str(remote), timeout_s=60)
    link.get(str(remote), back, timeout_s=60)
    assert back.read_bytes() == remote.read_bytes() == local.read_bytes()


def test_missing_files_are_named_and_leave_nothing(link: Link, tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="absent"):
        link.get(str(tmp_path / "absent"), tmp_path / "back", timeout_s=20)
    with pytest.raises(LinkError, match="absent"):
        link.put(tmp_path / "absent", str(tmp_path / "remote"), timeout_s=20)
    with pytest.raises(LinkError, match="nowhere"):
        link.get(sys.executable, tmp_path / "nowhere" / "back", timeout_s=20)
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(LinkError, match="nowhere"):
        link.put(tmp_path / "file", str(tmp_path / "nowhere" / "remote"), timeout_s=20)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_workspace_is_private_new_and_removed(link: Link, device: Device) -> None:
    root = device.workspace
    with workspace(link, root, timeout_s=20) as first, workspace(link, root, timeout_s=20) as other:
        assert first != other
        assert oct(Path(first).stat().st_mode)[-3:] == "700"
        (Path(first) / "in the way").mkdir()
    assert not Path(first).exists()
    assert not Path(other).exists()


def test_a_workspace_is_removed_after_a_failure(link: Link, device: Device) -> None:
    with (
        pytest.raises(RemoteCommandError) as caught,
        workspace(link, device.workspace, timeout_s=20) as place,
    ):
        checked(link, ["sh", "-c", "echo no >&2; exit 9"], timeout_s=20)
    assert (caught.value.returncode, caught.value.stderr) == (9, "no")
    assert not Path(place).exists()


def test_a_workspace_that_cannot_be_made_says_where(link: Link, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(LinkError, match="cannot make the folder") as caught,
        workspace(link, str(tmp_path / "file"), timeout_s=20),
    ):
        pass
    assert "options.workspace" in caught.value.hint


def test_a_workspace_in_another_users_folder_is_refused(link: Link, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    (tmp_path / "root").mkdir()
    os.chown(tmp_path / "root", 12345, 12345)
    with (
        pytest.raises(LinkError, match="another user's"),
        workspace(link, str(tmp_path / "root"), timeout_s=20),
    ):
        pass
    (tmp_path / "root").chmod(0o1777)  # whose owner may rename what lies in it all the same
    with (
        pytest.raises(LinkError, match="another user's"),
        workspace(link, str(tmp_path / "root"), timeout_s=20),
    ):
        pass
    os.chown(tmp_path / "root", 0, 0)
    with workspace(link, str(tmp_path / "root"), timeout_s=20) as place:
        assert Path(place).is_dir()


def test_a_workspace_by_another_users_link_is_refused(link: Link, tmp_path: Path) -> None:
    """In /tmp it could lead to any folder of ours, to be swept."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a link away")
    (tmp_path / "mine").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "mine")
    with workspace(link, f"{tmp_path}/root/", timeout_s=20) as place:
        assert Path(place).is_dir()
    os.chown(tmp_path / "root", 12345, 12345, follow_symlinks=False)
    with (
        pytest.raises(LinkError, match="another user's link"),
        workspace(link, f"{tmp_path}/root/", timeout_s=20),
    ):
        pass
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize("owner", [0, 12345])
def test_a_shared_folder_is_used_where_its_owner_is_trusted(tmp_path: Path, owner: int) -> None:
    """Asked as a user who is neither root nor the owner."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    shared = tmp_path / "shared folder"
    shared.mkdir()
    for folder in (*tmp_path.parents, tmp_path):
        if folder.is_relative_to("/tmp/") and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o111)
    os.chown(shared, owner, owner)
    shared.chmod(0o1777)
    argv = ["sh", "-c", MAKE_FOLDER, "sh", str(shared), f"{shared}/job-1"]
    done = subprocess.run(argv, user=54321, group=54321, capture_output=True, check=False)
    assert (done.returncode == 0) == (owner == 0), done.stderr
    assert (shared / "job-1").is_dir() == (owner == 0)


def test_closing_twice_is_harmless(device: Device) -> None:
    opened = connect(device)
    opened.close()
    opened.close()
