"""What was measured beyond one burst, in the page and in Markdown."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from edgepack.cli.tables import measurements_table
from edgepack.records import (
    Bin,
    Comparison,
    Drift,
    Energy,
    Measurement,
    OperatorTime,
    OperatorTimes,
    Pair,
    Report,
    Sustained,
    ThreadRun,
)
from edgepack.reporting import provenance, runs, to_html, to_markdown
from edgepack.reporting.cells import cells
from edgepack.reporting.collect import build
from tests.unit.reporting.realistic import BOARD, LAPTOP, measurement, pack

AGAINST = Comparison(
    artefact_sha256="b" * 64, model="digits-cnn", recipe="float32", margin=0.02, change=0.231,
    ci95=(0.2, 0.27), verdict="real", pairs=(Pair(a_us=10.0, b_us=12.3, n=(9, 9)),) * 12,
)  # fmt: skip
SUSTAINED = Sustained(
    seconds=600.0,
    bins=tuple(
        Bin(
            start_s=place * 10.0, seconds=9.5, n=900, min_us=9.0, p50_us=10.0 + place / 10,
            p90_us=12.0, p99_us=20.0, max_us=99.0, temperature_c=50.0 + place / 2,
            clock_khz=1_500_000, throttled=place >= 45,
        )
        for place in range(60)
    ),
    drift=Drift(first_us=10.26, last_us=15.65, change=0.527, real=True),
)  # fmt: skip
TIMES = OperatorTimes(
    operators=(
        OperatorTime(index=0, name="Convolution (NHWC)", us=6.0, share=0.75, delegated=True),
        OperatorTime(index=1, name="SOFTMAX", us=2.0, share=0.25, delegated=False),
    ),
    runs=50, whole_us=10.0, residual=0.2, reliable=True, delegated=0.75,
)  # fmt: skip


def whole(**changes: Any) -> Measurement:
    taken = measurement("int8", "pi", BOARD.id, emulated=True)
    return replace(taken, against=AGAINST, sustained=SUSTAINED, operators=TIMES, **changes)


def reported(*taken: Measurement) -> Report:
    return build([pack("int8", BOARD.id)], taken, {}, [LAPTOP, BOARD])


def told(*taken: Measurement) -> list[str]:
    return runs.sentences(cells(reported(*taken).sections[0]))


def test_a_plain_measurement_has_nothing_more_to_say() -> None:
    plain = reported(measurement("int8", "pi", BOARD.id))
    assert runs.sentences(cells(plain.sections[0])) == []
    assert "Beyond one burst" not in to_html(plain)


def test_sentences_have_their_numbers_and_their_mark() -> None:
    versus, load = told(whole())
    assert versus == (
        "int8 on pi (emulated): digits-cnn float32 takes 23 % more in 12 turns "
        "(95 % interval 20 % more to 27 % more): the difference is real"
    )
    assert load == (
        "int8 on pi (emulated): after 10 min an inference takes 53 % more (10.3 µs → 15.7 µs; "
        "the drift is real), at most 80 °C, throttled from 7.5 min on in 15 of 60 bursts"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"verdict": "not real", "change": -0.004, "ci95": (-0.01, 0.002)}, "0.4 % less"),
        ({"verdict": "not real"}, "the difference is not real: it is below 2%"),
        ({"verdict": "can't tell"}, "one cannot tell whether the difference is real"),
        ({"change": None, "ci95": None, "pairs": ()}, "no pair of bursts was finished"),
        ({"pairs": (replace(AGAINST.pairs[0], throttled=True),) * 12}, "in 12 of 12 turns"),
    ],
)
def test_every_verdict_is_told(changes: dict[str, Any], words: str) -> None:
    assert words in runs.against(replace(AGAINST, **changes))


def test_a_short_or_cool_load() -> None:
    cool = replace(SUSTAINED.bins[0], temperature_c=None, clock_khz=None)
    text = runs.sustained(Sustained(seconds=30.0, bins=(cool,)))
    assert text == "a sustained load of 30 s is too short to tell a drift"


def test_threads_and_energy() -> None:
    plain = measurement("int8", "pi", BOARD.id)
    assert plain.latency_us is not None
    sweep = tuple(
        ThreadRun(threads=n, latency_us=replace(plain.latency_us, p50=p50), samples_us=(p50,))
        for n, p50 in ((1, 10.0), (2, 12.0))
    )
    energy = Energy(joules=6.0, seconds=2.0, inferences=1234, meter="m")
    lines = told(replace(plain, sweep=sweep, energy=energy))
    assert lines == [
        "int8 on pi: 1 thread is the fastest (p50 by threads: 1: 10 µs, 2: 12 µs)",
        "int8 on pi: 6 J in 2 s (3 W, the whole device, 1,234 inferences)",
    ]
    assert "J in" not in " ".join(told(plain))  # absent, not estimated


def test_the_page_shows_the_load_over_time() -> None:
    made = reported(whole())
    figure = runs.plot(made.sections[0], cells(made.sections[0]))
    assert figure is not None
    (trace,) = figure["data"]
    assert trace["name"] == "int8 on pi (emulated)"
    assert trace["x"][:2] == [0.0, pytest.approx(1 / 6)]
    assert trace["y"][0] == pytest.approx(0.01)
    assert (trace["marker"]["symbol"][0], trace["marker"]["symbol"][-1]) == ("circle", "x")
    assert "throttled" in trace["customdata"][-1]
    assert trace["line"]["dash"] == "dot"
    html = to_html(made)
    assert 'data-figure="sustained"' in html
    assert "the difference is real" in html
    assert json.dumps("int8 on pi (emulated)") in html


def test_operators_are_ordered_and_an_unreliable_table_says_so() -> None:
    swapped = replace(TIMES, operators=TIMES.operators[::-1])
    (table,) = runs.operators(cells(reported(whole()).sections[0]))
    assert [row[0].text for row in table.rows] == ["Convolution (NHWC)", "SOFTMAX"]
    assert [row[3].text for row in table.rows] == ["75.0%", "25.0%"]
    assert "(emulated): 75% of the time in a delegate" in table.caption
    assert "UNRELIABLE" not in table.caption
    bad = replace(whole(), operators=replace(swapped, residual=0.4, reliable=False))
    (table,) = runs.operators(cells(reported(bad).sections[0]))
    assert [row[0].text for row in table.rows] == ["Convolution (NHWC)", "SOFTMAX"]
    assert "UNRELIABLE: 40% of the median is in none of them" in table.caption


def test_markdown_tells_the_same() -> None:
    drifted = whole(drift=Drift(first_us=10.0, last_us=12.0, change=0.2, real=True))
    text = to_markdown(reported(drifted))
    assert "- int8 on pi (emulated): digits-cnn float32 takes 23 % more in 12 turns" in text
    assert "- ⚠️ int8 on pi: the burst drifted from 10 µs to 12 µs" in text
    assert re.search(r"\| Convolution \(NHWC\) \| 0 \| 6 µs \| 75.0% \|", text)


def test_a_protocol_tells_what_was_chosen_and_no_more() -> None:
    chosen = {"runs": 100, "cores": (), "max_start_c": None}
    pinned = {**chosen, "cores": (4, 5), "max_start_c": 50.0}
    for protocol, words in (
        (chosen, "runs 100"),
        (pinned, "runs 100, cores 4, 5, max_start_c 50"),
        ({**chosen, "cores": "big"}, "runs 100, cores big"),
    ):
        made = reported(replace(measurement("int8", "pi", BOARD.id), protocol=protocol))
        (row,) = provenance.runs(cells(made.sections[0])).rows
        assert row[5].text == words


def test_hostile_names_are_inert() -> None:
    evil = "</script><img src=x onerror=alert(1)>|`"
    times = replace(TIMES, operators=(replace(TIMES.operators[0], name=evil),))
    made = reported(replace(whole(), against=replace(AGAINST, model=evil), operators=times))
    assert "<img src=x" not in to_html(made)
    assert "<img" not in to_markdown(made)


def test_the_commands_table_ends_with_the_sentences_and_the_slowest_operators() -> None:
    text = measurements_table([whole()])
    assert "\nint8 on pi (emulated): digits-cnn float32 takes 23 % more" in text
    assert "\nint8 on pi (emulated): after 10 min" in text
    caption, *rows = text[text.index("int8 on pi (emulated): 75%") :].splitlines()
    assert caption.endswith("20% of the median is in none of them")
    assert [words[0] for row in rows if (words := row.split())][-2:] == ["Convolution", "SOFTMAX"]
    many = replace(TIMES, operators=TIMES.operators * 20)
    assert measurements_table([replace(whole(), operators=many)]).count("(NHWC)") == 15
