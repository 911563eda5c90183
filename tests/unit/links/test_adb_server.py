"""What adb says of the phones it sees, and which of them is meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import LinkError
from edgepack.links.adb_server import Seen, chosen, listed, over_tcp

SAID = (
    "* daemon not running; starting now at tcp:5037\n* daemon started successfully\n"
    "List of devices attached\nR5CT1234\tdevice\n192.168.1.7:5555\tunauthorized\n"
    "0123\tno permissions (user in plugdev group?); see [http://developer.android.com]\n\n"
)


def test_phones_and_their_states_are_read():
    assert [(phone.serial, phone.state.split()[0]) for phone in listed(SAID)] == [
        ("R5CT1234", "device"),
        ("192.168.1.7:5555", "unauthorized"),
        ("0123", "no"),
    ]


@given(st.text())
def test_whatever_adb_says_is_read(said):
    assert all("\t" not in phone.serial for phone in listed(said))


@pytest.mark.parametrize(
    ("address", "states", "words"),
    [
        ("", {}, "no phone"),
        ("R5", {"R6": "device"}, "no phone R5"),
        ("", {"R5": "device", "R6": "device"}, "2 phones: R5, R6"),
        ("R5", {"R5": "unauthorized", "R6": "device"}, "not authorized"),
        ("", {"R5": "offline"}, "'offline'"),
        ("", {"R5": "no permissions (…)"}, "no permissions"),
    ],
)
def test_what_is_wrong_is_said_with_a_cure(address, states, words):
    with pytest.raises(LinkError, match=words) as caught:
        chosen(address, [Seen(serial=name, state=state) for name, state in states.items()])
    assert caught.value.hint


def test_the_only_phone_and_the_named_one():
    seen = [Seen(serial="R5", state="device"), Seen(serial="R6", state="device")]
    assert chosen("", seen[:1]) == "R5"
    assert chosen("R6", seen) == "R6"


@pytest.mark.parametrize("address", ["10.0.0.7:5555", "phone.local:37001", "[::1]:5555"])
def test_addresses(address):
    assert over_tcp(address)


@pytest.mark.parametrize("address", ["", "R5CT1234", "emulator-5554", "phone.local", "a b:1"])
def test_serial_numbers(address):
    assert not over_tcp(address)
