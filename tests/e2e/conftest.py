"""Real devices for end-to-end tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sshd import serving


@pytest.fixture(scope="module")
def loopback_device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The description of a device behind a real SSH server on this machine.

    Its Python has a runtime: how one is delivered, ``test_ssh`` proves once.
    """
    with serving(tmp_path_factory.mktemp("sshd")) as server:
        device = server.device()
        description = tmp_path_factory.mktemp("devices") / "loopback.toml"
        description.write_text(
            f'link = "ssh"\ntarget = "{device.target}"\naddress = "{device.address}"\n'
            f'[options]\npython = "{sys.executable}"\nkey = "{device.options.key}"\n'
            f'known_hosts = "{device.options.known_hosts}"\n'
            f'workspace = "{device.workspace}"\n'
        )
        yield description
