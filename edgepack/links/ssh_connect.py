"""Open an SSH connection: the user's configuration, his known hosts, and errors with a cure."""

from __future__ import annotations

import base64
import getpass
import hashlib
import logging
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from edgepack.errors import LinkError, LinkTimeout, SpecError
from edgepack.links.link import printable
from edgepack.spec.device import Device, DeviceOptions

if TYPE_CHECKING:
    import paramiko

PASSWORD = "EDGEPACK_SSH_PASSWORD"  # noqa: S105 - the name of a variable, not a password
KEEPALIVE_SECONDS = 15
MOST_HOPS = 8
UNSAFE = frozenset("'`\";&<>|(){}")
UNSAFE_IN_HOSTS = UNSAFE | frozenset("$\\ ")
"""What OpenSSH takes in no name either: a `Match exec` of the user's own would run it."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where to connect, after the user's configuration was read."""

    host: str
    port: int
    user: str
    keys: tuple[str, ...] = ()
    jump: str = ""

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}"


def ssh_exception() -> type[Exception]:
    """Paramiko's base exception; paramiko takes a while to import, so only when needed."""
    from paramiko import SSHException

    return SSHException


def split(address: str) -> tuple[str | None, str, int | None]:
    """(user, host, port) of ``[user@]host[:port]``; an IPv6 host stands in brackets.

    Raises SpecError where it is not such an address.
    """
    user, at, rest = address.rpartition("@")
    if rest.startswith("["):
        host, closed, tail = rest[1:].partition("]")
        port = tail.removeprefix(":")
        wrong = not closed or (tail and not tail.startswith(":"))
    else:
        host, colon, port = rest.partition(":")
        wrong = bool(colon and not port)
    if wrong or not host or (at and not user) or (port and not port.isdecimal()):
        raise SpecError(
            f"'{address}' is not an SSH address", 'write address = "user@host" or "user@host:22"'
        )
    for name, unsafe in ((user, UNSAFE), (host, UNSAFE_IN_HOSTS)):
        if name.startswith("-") or unsafe & set(name) or not name.isprintable():
            raise SpecError(
                f"'{printable(address)}' is not an SSH address: {name!r} is no name",
                "a name does not begin with '-', and holds no blanks, quotes or shell characters",
            )
    if port and not 0 < int(port) < 65536:
        raise SpecError(f"'{address}': no such port: {port}", "a port is 1 to 65535")
    return user or None, host, int(port) if port else None


def resolve(address: str) -> Place:
    """The place that an address means, with the user's ``~/.ssh/config`` (HostName, User, Port,
    IdentityFile, ProxyJump). Raises LinkError where that file is not understood.
    """
    import paramiko

    user, alias, port = split(address)
    path = Path("~/.ssh/config").expanduser()
    found: Any = {}
    if path.is_file():
        try:
            found = paramiko.SSHConfig.from_path(str(path)).lookup(alias)
        except (paramiko.SSHException, OSError, ImportError) as error:
            raise LinkError(
                f"{path}: {error}", "mend that file, or name the host in full"
            ) from error
    if found.get("proxycommand", "none") != "none":
        raise LinkError(
            f"{path}: ProxyCommand for '{alias}' is not supported", "use ProxyJump instead"
        )
    jump = found.get("proxyjump", "")
    if not (known_port := str(found.get("port", 22))).isdecimal():
        raise LinkError(f"{path}: '{alias}' has the port '{known_port}'", "mend that file")
    return Place(
        host=found.get("hostname", alias),
        port=port or int(known_port),
        user=user or found.get("user") or _here(),
        keys=tuple(
            key for key in found.get("identityfile", ()) if Path(key).expanduser().is_file()
        ),
        jump="" if jump == "none" else jump,
    )


def open_clients(device: Device) -> list[paramiko.SSHClient]:
    """The device's connected client, then that of the host on the way, if there is one.

    Raises LinkError or LinkTimeout, each with what to do about it.
    """
    logging.getLogger("paramiko").addHandler(logging.NullHandler())  # it logs what it raises
    place, options = resolve(device.address), device.options
    opened: list[paramiko.SSHClient] = []
    try:
        for hop in (*_on_the_way(place), place):
            opened.insert(0, _open(hop, options, opened[0] if opened else None))
    except BaseException:
        for client in opened:
            client.close()
        raise
    return opened


def _on_the_way(place: Place) -> list[Place]:
    """The hosts to go through, the nearest first. Raises LinkError where they form a ring."""
    hops: list[Place] = []
    while place.jump:
        names = [name.strip() for name in place.jump.split(",")]
        hops = [*(resolve(name) for name in names), *hops]
        place = hops[0]
        if len(hops) > MOST_HOPS:
            raise LinkError(
                f"~/.ssh/config: ProxyJump leads through more than {MOST_HOPS} hosts",
                "do they lead to each other?",
            )
    return hops


def _here() -> str:
    """The user's name on this machine, which is what ssh takes where none is given."""
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:  # a container's user may have no name
        raise LinkError(
            "this machine has no name for its user", 'write address = "user@host"'
        ) from error


def _open(
    place: Place, options: DeviceOptions, via: paramiko.SSHClient | None
) -> paramiko.SSHClient:
    import paramiko

    client = paramiko.SSHClient()
    _load_known_hosts(client, options)
    client.set_missing_host_key_policy(_refuse(place))
    seconds = options.connect_seconds
    keys: Any = [str(Path(key).expanduser()) for key in (options.key, *place.keys) if key]
    try:
        client.connect(
            place.host,
            place.port,
            place.user,
            password=os.environ.get(PASSWORD) or None,
            key_filename=keys or None,
            look_for_keys=options.key is None,
            timeout=seconds,
            banner_timeout=seconds,
            auth_timeout=seconds,
            channel_timeout=seconds,
            sock=_tunnel(via, place, seconds),
        )
    except BaseException as error:
        client.close()
        if isinstance(error, OSError | EOFError | ValueError | paramiko.SSHException):
            raise explained(error, place, options) from error
        raise
    transport = client.get_transport()
    if transport is not None:
        transport.set_keepalive(KEEPALIVE_SECONDS)
    return client


def _tunnel(via: paramiko.SSHClient | None, place: Place, seconds: float) -> Any:
    """A channel to the place through a host on the way; None where there is none."""
    transport = via.get_transport() if via is not None else None
    if transport is None:
        return None
    target = (place.host, place.port)
    return transport.open_channel("direct-tcpip", target, ("", 0), timeout=seconds)


def _load_known_hosts(client: paramiko.SSHClient, options: DeviceOptions) -> None:
    """The user's known hosts, the machine's, and those of the device's own file."""
    files = [Path("~/.ssh/known_hosts").expanduser(), Path("/etc/ssh/ssh_known_hosts")]
    if options.known_hosts:
        own = Path(options.known_hosts).expanduser()
        if not own.is_file():
            raise LinkError(f"no such file: {own}", "options.known_hosts names a file of host keys")
        files.append(own)
    from paramiko.hostkeys import InvalidHostKey

    for path in files:
        if path.is_file():
            try:
                client.load_system_host_keys(str(path))
            except (OSError, ValueError, InvalidHostKey) as error:
                raise LinkError(f"{path} cannot be read: {error}", "mend or remove it") from error


def _refuse(place: Place) -> Any:
    """A policy that refuses a host whose key nobody vouched for."""
    import paramiko

    class Refuse(paramiko.MissingHostKeyPolicy):
        def missing_host_key(self, client: Any, hostname: str, key: paramiko.PKey) -> None:
            raise LinkError(
                f"the host key of {place.host}:{place.port} is not known ({fingerprint(key)})",
                f"compare the fingerprint with the device's, then trust it: run "
                f"`ssh -p {place.port} {quote(f'{place.user}@{place.host}')}` once, or add the "
                f"lines of `ssh-keyscan -p {place.port} {quote(place.host)}` to "
                "~/.ssh/known_hosts",
            )

    return Refuse()


def fingerprint(key: paramiko.PKey) -> str:
    """A key as ssh itself shows it: its type and SHA256 fingerprint."""
    digest = base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")
    return f"{key.get_name()} SHA256:{digest}"


def explained(error: BaseException, place: Place, options: DeviceOptions) -> LinkError:
    """The LinkError that says what a foreign exception meant and what to do about it."""
    import paramiko
    from paramiko.ssh_exception import NoValidConnectionsError

    where, text = f"{place.host}:{place.port}", str(error)
    if isinstance(error, paramiko.BadHostKeyException):
        return LinkError(
            f"the host key of {where} has CHANGED (now {fingerprint(error.key)})",
            "somebody may be in between; if the device was set up anew: "
            f"`ssh-keygen -R {quote(f'[{place.host}]:{place.port}')}` and trust it again",
        )
    if isinstance(error, paramiko.PasswordRequiredException):
        return LinkError(
            f"the private key for {place} is encrypted", f"`ssh-add` it, or set {PASSWORD}"
        )
    late = isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError)
    # what paramiko says when a handshake took too long
    late = late or "No existing session" in text or "timeout" in text.lower()
    if late:
        return LinkTimeout(
            f"{where} did not answer within {options.connect_seconds:g} s",
            "is the device on? raise options.connect_seconds if it is only slow",
        )
    if isinstance(error, paramiko.AuthenticationException) and "EOF" not in text:
        return LinkError(
            f"{place} refused to let you in",
            f"set options.key in the device's TOML, `ssh-add` a key, or set {PASSWORD}",
        )
    if isinstance(error, NoValidConnectionsError | ConnectionRefusedError):
        return LinkError(f"nothing answers at {where}", "is the device on, and its SSH server up?")
    if isinstance(error, socket.gaierror):
        return LinkError(
            f"the name {place.host} cannot be resolved", "check `address`, or use an IP address"
        )
    if "banner" in text:
        return LinkError(
            f"{where} does not answer as an SSH server does", "check the port in `address`"
        )
    if isinstance(error, EOFError | ConnectionError) or "EOF" in text or "Negotiation" in text:
        return LinkError(
            f"{where} ended the connection before it was open; perhaps it does not answer as an "
            "SSH server does",
            "check the port in `address`; else look at the server's log: it may be overloaded",
        )
    return LinkError(
        f"cannot connect to {place}: {printable(text) or type(error).__name__}",
        f"try by hand: `ssh -v -p {place.port} {quote(f'{place.user}@{place.host}')}`",
    )
