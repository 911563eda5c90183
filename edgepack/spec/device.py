"""A device: an *instance* on somebody's bench, and how to reach it. No secrets, ever."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from edgepack.spec.fields import FORBID, NotNegative, Positive, Text

WORKSPACES = {"adb": "/data/local/tmp/edgepack"}


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """How to use the device.

    ``python`` is the interpreter there; ``key`` a private key file; ``known_hosts`` a file
    that is read beside the user's own; ``workspace`` where jobs may write (on a phone
    /data/local/tmp/edgepack, elsewhere /tmp/edgepack, where it is None); ``connect_seconds`` and
    ``call_seconds`` the deadlines of connecting and of each call; ``lock_seconds`` how long to
    wait while somebody else measures there; ``meter`` a program on this machine, with its
    arguments, that counts the energy which the device takes (docs/measuring.md).
    """

    __pydantic_config__ = FORBID
    python: Text = "python3"
    key: Text | None = None
    known_hosts: Text | None = None
    workspace: Text | None = None
    runtime: str | None = None
    connect_seconds: Positive = 15.0
    call_seconds: Positive = 120.0
    lock_seconds: NotNegative = 600.0
    meter: tuple[Text, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Device:
    """One device; the TOML file's stem is ``id``.

    ``address`` is ``[user@]host[:port]`` for ssh; for adb a serial number, ``host:port``, or
    nothing where one phone alone is plugged in. ``board`` is the emulated board that it is: the
    bench boots it, and knows its address.
    """

    __pydantic_config__ = FORBID
    id: str
    target: Text
    link: Literal["local", "ssh", "adb"]
    address: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    emulated: bool = False
    board: str = ""
    options: DeviceOptions = field(default_factory=DeviceOptions)

    def __post_init__(self) -> None:
        if self.link == "ssh" and not (self.address or self.board):
            raise ValueError("'address' is missing: link 'ssh' needs [user@]host[:port]")

    @property
    def workspace(self) -> str:
        """The folder there that jobs may write to; each makes a private one below it."""
        return self.options.workspace or WORKSPACES.get(self.link, "/tmp/edgepack")  # noqa: S108
