"""Every link, each to a device of its own on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgepack.links.link import LINKS, Link, connect
from edgepack.spec.device import Device, DeviceOptions
from tests.adbd import Phone
from tests.adbd import serving as serving_phone
from tests.sshd import Sshd, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with serving(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    with serving_phone(tmp_path_factory.mktemp("phone")) as running:
        yield running


@pytest.fixture(scope="module", params=sorted(LINKS))
def device(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Device:
    root = str(tmp_path_factory.mktemp("device") / "work")
    if request.param == "local":
        options = DeviceOptions(workspace=root)
        return Device(id="here", target="generic-linux-x86_64", link="local", options=options)
    if request.param == "adb":
        phone: Phone = request.getfixturevalue("phone")
        return phone.device(workspace=root)
    running: Sshd = request.getfixturevalue("server")
    return running.device(workspace=root)


@pytest.fixture(scope="module")
def link(device: Device) -> Iterator[Link]:
    opened = connect(device)
    yield opened
    opened.close()
