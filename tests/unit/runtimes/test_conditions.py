"""What a state says about heat, whatever a device puts in it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.runtimes.conditions import hottest, throttled, throttling


@pytest.mark.parametrize(
    ("zones", "expected"),
    [
        ({"thermal_zone0 cpu-thermal": 47.2}, 47.2),
        ({"thermal_zone0 battery": 60.0, "thermal_zone1 soc": 40.0}, 40.0),
        ({"thermal_zone0 x86_pkg_temp": 55.0, "thermal_zone1 acpitz": 70.0}, 55.0),
        ({"thermal_zone0 battery": 30.0, "thermal_zone1 iwlwifi": 44.0}, 44.0),
        ({"thermal_zone0": 33.0}, 33.0),
        ({}, None),
        ({"thermal_zone0 cpu": "hot"}, None),
        ("hot", None),
        (None, None),
    ],
)
def test_the_hottest_part_of_the_processor(zones: Any, expected: float | None) -> None:
    assert hottest({"temperature_c": zones}) == expected


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({}, {}, ""),
        ({"throttled": "0x0"}, {"throttled": "0x50005"}, "0x50005"),
        ({"throttled": "0x0"}, {"throttled": "0x40000"}, "0x40000, for a while"),
        ({"throttled": "0x40000"}, {"throttled": "0x40000"}, ""),
        ({"throttled": "0x10000"}, {"throttled": "0x50000"}, "0x50000, for a while"),
        ({}, {"throttled": "0x40000"}, ""),  # it may have been hours ago
        ({}, {"thermal_status": 2}, "Android's thermal status 2"),
        ({}, {"thermal_status": 1}, "Android's thermal status 1"),
        ({}, {"thermal_status": 0}, ""),
        ({"throttle_count": 4}, {"throttle_count": 9}, "5 times"),
        ({"throttle_count": 4}, {"throttle_count": 4}, ""),
        ({}, {"throttle_count": 4}, ""),
        ({}, {"cooling": {"cooling_device0 cpufreq-cpu0": 0}}, ""),
        (
            {},
            {"cooling": {"cooling_device1 cpufreq-cpu4": 3}},
            "cooling_device1 cpufreq-cpu4 at step 3",
        ),
    ],
)
def test_how_a_device_held_its_clock_back(before: Any, after: Any, words: str) -> None:
    assert throttling(after, before) == words
    assert throttled(after, before) == bool(words)


keys = st.sampled_from(
    ["throttled", "thermal_status", "throttle_count", "cooling", "temperature_c"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
states = st.dictionaries(keys, values)


@given(states, states)
def test_nonsense_is_unknown(after: dict[str, Any], before: dict[str, Any]) -> None:
    assert isinstance(throttling(after, before), str)
    assert hottest(after) is None or isinstance(hottest(after), int | float)
