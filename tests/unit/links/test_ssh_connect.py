"""Addresses, the user's configuration, and what each failure of connecting means."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import paramiko
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paramiko.ssh_exception import NoValidConnectionsError

from edgepack.errors import LinkError, LinkTimeout, SpecError
from edgepack.links import ssh_connect
from edgepack.links.ssh_connect import Place, explained, open_clients, resolve, split
from edgepack.spec.device import Device, DeviceOptions

HERE = Place(host="board", port=22, user="pi")


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("board", (None, "board", None)),
        ("pi@board", ("pi", "board", None)),
        ("pi@board:2222", ("pi", "board", 2222)),
        ("a@b@board", ("a@b", "board", None)),
        ("[::1]", (None, "::1", None)),
        ("pi@[fe80::1]:22", ("pi", "fe80::1", 22)),
    ],
)
def test_addresses(address: str, expected: Any) -> None:
    assert split(address) == expected


@pytest.mark.parametrize(
    "address",
    ["", "@board", "pi@", "board:", "board:x", "board:0", "board:70000", "[::1", "[::1]x", "::1"],
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(SpecError):
        split(address)


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_one_error(text: str) -> None:
    try:
        _, host, port = split(text)
    except SpecError:
        return
    assert host
    assert port is None or 0 < port < 65536


def test_the_users_configuration(home: Path) -> None:
    (home / "key").write_text("")
    (home / ".ssh" / "config").write_text(
        "Host board\n HostName 192.0.2.1\n Port 2222\n User pi\n ProxyJump gate\n"
        " IdentityFile ~/key\n IdentityFile ~/absent\n"
        "Host free\n ProxyJump none\nHost odd\n ProxyCommand nc %h %p\n"
    )
    place = resolve("board")
    assert (place.host, place.port, place.user, place.jump) == ("192.0.2.1", 2222, "pi", "gate")
    assert place.keys == (str(home / "key"),)
    assert str(place) == "pi@192.0.2.1:2222"
    own = resolve("me@board:22")
    assert (own.user, own.port) == ("me", 22)
    assert resolve("free").jump == ""
    with pytest.raises(LinkError, match="ProxyCommand"):
        resolve("odd")


def test_without_a_configuration_the_address_says_it(home: Path) -> None:
    place = resolve("board")
    assert (place.host, place.port, place.keys, place.jump) == ("board", 22, (), "")


def test_a_configuration_that_is_not_understood(home: Path) -> None:
    (home / ".ssh" / "config").write_text("Host\n")
    with pytest.raises(LinkError, match="config"):
        resolve("board")


class Tangled(paramiko.SSHException):
    """What paramiko raises when it waited for a banner."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.__context__ = TimeoutError()


KEY = paramiko.RSAKey.generate(1024)


@pytest.mark.parametrize(
    ("error", "kind", "message", "hint"),
    [
        (paramiko.BadHostKeyException("board", KEY, KEY), LinkError, "CHANGED", "ssh-keygen -R"),
        (paramiko.PasswordRequiredException("x"), LinkError, "encrypted", "ssh-add"),
        (paramiko.AuthenticationException("x"), LinkError, "refused", "options.key"),
        (NoValidConnectionsError({("::1", 22): OSError()}), LinkError, "nothing answers", "on"),
        (ConnectionRefusedError(), LinkError, "nothing answers", "server"),
        (socket.gaierror(-2, "x"), LinkError, "cannot be resolved", "address"),
        (TimeoutError(), LinkTimeout, "within 3 s", "connect_seconds"),
        (
            Tangled("Error reading SSH protocol banner"),
            LinkTimeout,
            "within 3 s",
            "connect_seconds",
        ),
        (
            paramiko.SSHException("No existing session"),
            LinkTimeout,
            "within 3 s",
            "connect_seconds",
        ),
        (
            paramiko.SSHException("Error reading SSH protocol banner"),
            LinkError,
            "not answer",
            "port",
        ),
        (EOFError(), LinkError, "does not answer", "port"),
        (ConnectionResetError(), LinkError, "does not answer", "port"),
        (ValueError("q must be one of"), LinkError, "pi@board:22: q must be", ""),
        (OSError(), LinkError, "pi@board:22: OSError", ""),
    ],
)
def test_each_failure_says_what_to_do(error: Any, kind: type, message: str, hint: str) -> None:
    found = explained(error, HERE, DeviceOptions(connect_seconds=3))
    assert type(found) is kind
    assert message in found.message
    assert hint in found.hint
    assert "\n" not in found.message + found.hint


def test_a_broken_known_hosts_file_is_named(home: Path) -> None:
    (home / ".ssh" / "known_hosts").write_text("board ssh-ed25519 notbase64\n")
    device = Device(id="d", target="t", link="ssh", address="board")
    with pytest.raises(LinkError, match="known_hosts cannot be read"):
        open_clients(device)


def test_a_host_on_the_way_is_left_when_the_device_fails(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gate:
        closed = False

        def close(self) -> None:
            self.closed = True

    gate = Gate()

    def opened(place: Place, options: Any, via: Any) -> Any:
        if place.host == "gate":
            return gate
        raise LinkError("no")

    (home / ".ssh" / "config").write_text("Host board\n ProxyJump gate\n")
    monkeypatch.setattr(ssh_connect, "_open", opened)
    with pytest.raises(LinkError, match="no"):
        open_clients(Device(id="d", target="t", link="ssh", address="board"))
    assert gate.closed


def test_an_interrupt_is_not_an_explanation(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(paramiko.SSHClient, "connect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_clients(Device(id="d", target="t", link="ssh", address="board"))
