from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from edgepack.records import (
    Agreement,
    Check,
    DeviceRecord,
    ErrorRecord,
    Fit,
    Instructions,
    Quality,
    Report,
    from_dict,
)
from edgepack.reporting import provenance, tables, to_html, to_json, to_markdown
from edgepack.reporting.cells import cells
from edgepack.reporting.collect import build
from edgepack.reporting.page import embedded
from tests.unit.reporting.realistic import (
    BOARD,
    LAPTOP,
    failed,
    measurement,
    operators,
    pack,
    report,
    sha,
)

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{7*7}}|`*_[a](b)"
VOID = {"meta", "link", "br", "input", "img", "hr"}


class Page(HTMLParser):
    """Checks that elements nest, and collects tags, attributes, ids and texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(text)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(to_html(report()))


def strictly(text: str):
    def refuse(constant: str):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def hostile_report() -> Report:
    made = replace(
        pack("int8"), model=HOSTILE, recipe=HOSTILE, notes=(HOSTILE,), versions={HOSTILE: HOSTILE}
    )
    taken = replace(
        measurement("int8"),
        model=HOSTILE,
        recipe=HOSTILE,
        device=DeviceRecord(
            id=HOSTILE, link="ssh", target=LAPTOP.id, emulated=True, state={HOSTILE: HOSTILE}
        ),
        error=ErrorRecord(code=6, message=HOSTILE, hint=HOSTILE),
        notes=(HOSTILE,),
    )
    tables_of = {sha("int8"): tuple(replace(o, layer=HOSTILE) for o in operators("int8"))}
    return build([made], [taken], tables_of, [LAPTOP], title=HOSTILE, versions={"a": HOSTILE})


def test_the_page_parses_and_has_every_part(page: Page) -> None:
    headings = [
        "Overview", "Limits", "What failed", "From float32 to int8", "Results", "Trade-off",
        "Latency distribution", "Operators", "Where the bytes go", "Notes", "Provenance",
    ]  # fmt: skip
    for heading in headings:
        assert heading in page.text
    tags = [tag for tag, _ in page.tags]
    assert {"header", "main", "nav", "footer"} <= set(tags)
    assert sum(a.get("class") == "section" for _, a in page.tags) == 2
    assert tags.count("h1") == 1


def test_the_page_asks_nothing_of_the_network(page: Page) -> None:
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "srcset", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith("#") or value == "data:,", (tag, value)
    assert "img" not in {tag for tag, _ in page.tags}
    policy = next(a["content"] for _, a in page.tags if "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    assert policy.count("'sha256-") == 2


def test_plotly_is_there_once() -> None:
    assert to_html(report()).count("plotly.js v") == 1
    assert "plotly.js v" not in to_html(build([], [], {}, []))


def test_ids_are_unique_and_references_lead_somewhere(page: Page) -> None:
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        for name in ("aria-labelledby", "aria-controls"):
            assert attributes.get(name) is None or attributes[name] in ids
        link = attributes.get("href") or ""
        assert not link.startswith("#") or link[1:] in ids


def test_tables_are_accessible(page: Page) -> None:
    tags = [tag for tag, _ in page.tags]
    assert tags.count("caption") == tags.count("table")
    assert all("scope" in a for tag, a in page.tags if tag == "th")
    assert ("a", {"class": "skip", "href": "#main"}) in page.tags


def test_the_page_says_the_numbers(page: Page) -> None:
    for text in (
        "30.6 KiB", "peak 46.7 MiB",
        "3.31× smaller", "98.06 %", "−0.28 points", "23.9 k", "600 k", "33.9 dB",
        "unreachable", "pi4-lab: no answer from 192.0.2.7:22 within 15 s", "baseline",
        "int8 left softmax as it was: no weights", "temperature_c", sha("int8"), "≤ 0.2 ms",
        "edgepack measure generic-linux-x86_64/int8/model.tflite --device this-machine",
    ):  # fmt: skip
        assert text in page.text, text
    assert not re.search(r"\b(nan|inf|None|undefined)\b", page.text, re.IGNORECASE)


def test_emulated_figures_are_marked(page: Page) -> None:
    badges = [a for _, a in page.tags if a.get("class") == "badge emulated"]
    assert len(badges) >= 4
    assert any("unreal" in (a.get("class") or "") for tag, a in page.tags if tag == "td")
    assert "they are not the speed of the hardware" in page.text


def test_hostile_names_are_inert_in_the_page() -> None:
    html = to_html(hostile_report())
    found = Page(html)
    assert [a for tag, a in found.tags if tag == "script"] == [
        {"type": "application/json", "id": "report-data"}, {}, {},
    ]  # fmt: skip
    assert "img" not in {tag for tag, _ in found.tags}
    assert not any(name.startswith("on") for _, a in found.tags for name in a)
    assert "alert(1)" in found.text
    assert "{{7*7}}" in found.text
    data = html.split('id="report-data">', 1)[1].split("</script>", 1)[0]
    assert "<" not in data
    assert strictly(data)["sections"][0]["operators"][0]["rows"][0][2] == HOSTILE
    # Plotly reads tags in its texts, so names are escaped once more there.
    assert "<" not in strictly(data)["sections"][0]["figures"]["size"]["data"][1]["text"][0]


def test_embedded_json_is_strict_and_cannot_end_its_element() -> None:
    text = embedded({"a": "</script>&<!--", "b": math.nan, "c": ["é\u2028"]})
    assert not set("<>&\u2028") & set(text)
    assert strictly(text) == {"a": "</script>&<!--", "b": None, "c": ["é\u2028"]}


def test_json_is_the_record_and_strict() -> None:
    made = report()
    plain = strictly(to_json(made))
    assert next(iter(plain)) == "schema"
    assert from_dict(Report, plain) == made
    bad = replace(measurement("int8"), init_us=math.nan, first_us=math.inf)
    plain = strictly(to_json(build([pack("int8")], [bad], {}, [LAPTOP])))
    assert plain["sections"][0]["measurements"][0]["init_us"] is None


def test_numbers_that_are_not_never_show() -> None:
    m = measurement("int8")
    nan = math.nan
    bad = replace(
        m,
        init_us=nan,
        first_us=math.inf,
        samples_us=(1.0, nan, 2.0),
        latency_us=replace(m.latency_us, p50=nan, p90=nan, p99=nan, ci95=(nan, nan)),
        agreement=Agreement(samples=1, max_abs=nan, max_abs_lsb=nan, top1_match=nan),
        quality=Quality(metric="top1", device=nan),
    )
    made = build(
        [pack("float32"), pack("int8", quality=Quality(metric="top1", reference=nan, host=nan))],
        [measurement("float32"), bad],
        {},
        [LAPTOP],
    )
    for text in (Page(to_html(made)).text, to_markdown(made)):
        assert not re.search(r"\b(nan|inf)\b", text, re.IGNORECASE)


@pytest.mark.parametrize(
    "made",
    [
        build([], [], {}, []),
        build([pack("int8")], [], {}, [LAPTOP]),
        build([pack("int8", quality=None, check=None, fit=None, memory=None)], [], {}, []),
        build([], [measurement("int8")], {}, [LAPTOP]),
        build([pack("dynamic", BOARD.id)], [failed()], {}, [BOARD]),
        build([], [failed()], {}, []),
        build(
            [pack("int8", status="failed", artefact=None, error=ErrorRecord(code=3, message="m"))],
            [], {}, [LAPTOP],
        ),
    ],
    ids=["nothing", "packed", "bare", "stray", "failure", "stray failure", "failed pack"],
)  # fmt: skip
def test_sparse_reports_render(made: Report) -> None:
    assert Page(to_html(made)).text
    assert to_markdown(made)
    strictly(to_json(made))


def test_a_pack_that_does_not_fit_says_why() -> None:
    unfit = pack("int8", fit=Fit(ok=False, reasons=("needs 300 KiB of RAM, has 192 KiB",)))
    text = Page(to_html(build([unfit], [], {}, [LAPTOP]))).text
    assert "does not fit needs 300 KiB of RAM, has 192 KiB" in text


def test_what_a_check_and_a_comparison_found() -> None:
    def shown(check: Check | None = None, agreement: Agreement | None = None, **changes) -> str:
        made = build(
            [pack("int8", check=check)],
            [measurement("int8", agreement=agreement, **changes)],
            {},
            [],
        )
        (section,) = made.sections
        rows = [*tables.packs(section).rows, *tables.measurements(section, cells(section)).rows]
        return " ".join(f"{v.text} {v.detail} {v.exact}" for row in rows for v in row)

    assert "unchecked  no such runtime" in shown(
        Check(status="unchecked", runtime="tflm", why="no such runtime")
    )
    assert "33.9 dB" in shown(Check(status="ok", runtime="litert", sqnr_db=33.94))
    assert "exact" in shown(Check(status="ok", runtime="litert", mse=0.0))
    assert "exact" not in shown(Check(status="ok", runtime="litert"))
    assert "≤ 3 LSB" in shown(agreement=Agreement(samples=8, max_abs_lsb=3.0, max_abs=0.1))
    assert "≤ 0.001" in shown(agreement=Agreement(samples=8, max_abs=0.001))
    assert "first differs at conv" in shown(
        agreement=Agreement(samples=8, max_abs=1.0, first_divergence="conv")
    )
    assert "12.5 M instructions" in shown(
        latency_us=None, instructions=Instructions(n=3, mean=12_501_632)
    )
    assert "is rpi4-64" not in shown()


def test_a_device_of_another_target_is_marked() -> None:
    made = build([pack("int8")], [measurement("int8", "pi4-lab", BOARD.id)], {}, [LAPTOP])
    assert "is rpi4-64" in Page(to_html(made)).text
    assert "*(another target)*" in to_markdown(made)


def test_states_are_flat_and_short() -> None:
    assert provenance.flat({"a": {"b": 0.123456, "c": [1, True]}, "d": None}) == {
        "a.b": "0.1235", "a.c": "1, yes", "d": "–",
    }  # fmt: skip
    taken = [
        replace(m, device=replace(m.device, state={"load": n}))
        for n, m in enumerate([measurement("int8")] * 9)
    ]
    (section,) = build([pack("int8")], taken, {}, [LAPTOP]).sections
    (table,) = provenance.states(section)
    values = {row[0].text: row[1].text for row in table.rows}
    assert values["load"] == "0 · 1 · … 9 different values"
    assert values["link"] == "local"


def test_commands_are_quoted() -> None:
    made = hostile_report()
    section = made.sections[0]
    (line,) = provenance.commands(cells(section))
    assert "'</script>" in line
    no_runtime = build([pack("int8")], [measurement("int8", runtime=None)], {}, [])
    (line,) = provenance.commands(cells(no_runtime.sections[0]))
    assert line.endswith("--device this-machine")


def test_an_unchecked_pack_says_why_in_the_notes() -> None:
    check = Check(status="unchecked", runtime="tflm", why="it does not run here")
    (section,) = build([pack("int8", check=check)], [], {}, []).sections
    assert provenance.notes(section, cells(section)) == [
        "int8: unchecked in tflm: it does not run here"
    ]


MARKDOWN = """\
## one

❌ **1** missed · ✅ **2** met · ➖ **1** not judged

### digits-cnn → Linux PC, x86-64

- ❌ float32: file 101 KiB, limit 60 KiB
- ➖ float32: p90 not measured, limit 0.2 ms

<details><summary>2 limits met</summary>

- ✅ int8 on this-machine: p90 0.0271 ms, limit 0.2 ms
- ✅ int8: file 30.6 KiB, limit 60 KiB

</details>

`float32` → `int8`: file size 101 KiB → **30.6 KiB** (3.31× smaller); accuracy (top1) 98.06 % → **97.78 %** (−0.28 points); memory 12 KiB → **3 KiB** (4× less)

| recipe | device | size | gzip | accuracy | p50 | p90 | memory | status |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |
| float32 | – | 101 KiB | 92 KiB | 98.06 % | – | – | – | not measured |
| int8 | this-machine | 30.6 KiB | 23.5 KiB | 97.78 % | 23.9 µs | 27.1 µs | 688 KiB | ok |

<sub>2026-11-23T20:09:00Z · edgepack 0.1.0</sub>
"""  # noqa: E501


def test_markdown_of_a_small_report() -> None:
    limits = replace(LAPTOP.limits, min_accuracy=None, max_accuracy_drop=None)
    made = build(
        [pack("float32"), pack("int8")],
        [measurement("int8")],
        {},
        [replace(LAPTOP, limits=limits)],
        title="one",
        versions={"edgepack": "0.1.0"},
        created_at="2026-11-23T20:09:00Z",
    )
    order = to_markdown(made)
    assert sorted(order.splitlines()) == sorted(MARKDOWN.splitlines())
    assert order.index("❌ **1** missed") < order.index("| recipe |")


def test_markdown_marks_failures_and_emulated_devices() -> None:
    text = to_markdown(report())
    assert "⚠️ **1** failed" in text
    assert "| emulated-aarch64 *(emulated)* |" in text
    assert "no answer from 192.0.2.7:22 within 15 s (check that" in text
    assert len(text) < 65_536


def test_markdown_makes_hostile_names_inert() -> None:
    text = to_markdown(hostile_report())
    assert "<script>" not in text
    assert "<img" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {10}
    mention = replace(pack("int8"), model="@somebody\n# x http://example.org")
    text = to_markdown(build([mention], [], {}, []))
    assert "@somebody" not in text
    assert "://" not in text
    assert "\n# x" not in text


def test_markdown_of_many_cells_fits_a_comment() -> None:
    error = ErrorRecord(code=3, message="it broke")
    one = pack("int8", status="failed", error=error)
    packs = [replace(one, recipe=f"recipe-{n}") for n in range(100)]
    text = to_markdown(build(packs, [], {}, [LAPTOP]))
    assert "40 more in the page and in the JSON." in text
    assert "- 60 more failures in the page." in text
    assert len(text) < 65_536
    models = [replace(p, model=f"model-{n}") for n in range(30) for p in packs[:40]]
    text = to_markdown(build(models, [], {}, [LAPTOP]))
    assert re.search(r"^\d+ more sections in the page\.$", text, re.MULTILINE)
    assert len(text) < 65_536
    assert to_markdown(build([], [], {}, [])).count("Nothing has been packed") == 1


def test_a_thousand_cells_render() -> None:
    packs = [
        replace(
            pack("int8"),
            recipe=f"recipe-{n}",
            artefact=replace(pack("int8").artefact, sha256=sha(str(n))),
        )
        for n in range(250)
    ]
    taken = [
        replace(measurement("int8", device), artefact_sha256=sha(str(n)), recipe=f"recipe-{n}")
        for device in ("a", "b", "c", "d")
        for n in range(250)
    ]
    tables_of = {sha(str(n)): operators("int8") for n in range(250)}
    made = build(packs, taken, tables_of, [LAPTOP])
    assert len(made.sections[0].measurements) == 1000
    html = to_html(made)
    assert html.count("recipe-249") >= 5
