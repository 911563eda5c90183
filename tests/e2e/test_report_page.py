"""The page in a real browser: it draws, sorts, filters, turns dark, and asks for nothing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgepack.reporting import to_html
from edgepack.reporting.collect import build
from tests.needs import needs
from tests.unit.reporting.realistic import LAPTOP, measurement, operators, pack, report, sha
from tests.unit.reporting.test_render import hostile_report
from tests.unit.reporting.test_runs import reported, whole

pytestmark = pytest.mark.e2e
OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--no-first-run", "--disable-dev-shm-usage",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    needs(chromium is not None, "install chromium with the system's package manager")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        needs(False, "pip install playwright (it is in the extra 'dev')")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=OPTIONS)
        yield opened
        opened.close()


class Opened:
    """A page with what it complained of and what it asked for."""

    def __init__(self, page: object, file: Path) -> None:
        self.page, self.complaints, self.requests = page, [], []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(file.as_uri())
        page.wait_for_function("document.querySelector('[data-tools]').hidden === false")


@pytest.fixture
def open_page(browser, tmp_path: Path) -> Iterator[object]:
    contexts = []

    def opening(made, scheme: str = "light", width: int = 1280) -> Opened:
        file = tmp_path / "report.html"
        file.write_text(to_html(made), encoding="utf-8")
        context = browser.new_context(
            color_scheme=scheme, viewport={"width": width, "height": 900}, offline=True
        )
        contexts.append(context)
        return Opened(context.new_page(), file)

    yield opening
    for context in contexts:
        context.close()


def column(page, table: str, index: int) -> list[str]:
    rows = page.locator(f"{table} tbody tr:visible")
    return [rows.nth(i).locator("th, td").nth(index).inner_text() for i in range(rows.count())]


def test_every_section_is_drawn_without_a_complaint_or_a_request(open_page) -> None:
    opened = open_page(report())
    page = opened.page
    visible = page.locator(".section:visible")
    assert visible.count() == 1
    for heading in (
        "Limits", "Results", "Trade-off", "Latency distribution", "Operators",
        "Where the bytes go", "Provenance",
    ):  # fmt: skip
        assert visible.get_by_role("heading", name=heading, exact=True).is_visible()
    assert visible.locator(".canvas svg.main-svg").count() >= 4
    assert visible.locator(".scatterlayer .points path").count() >= 8
    assert visible.locator(".boxlayer .box").count() == 4
    assert visible.locator(".barlayer .point").count() >= 8
    assert opened.complaints == []
    assert len(opened.requests) == 1
    assert page.evaluate("document.documentElement.scrollWidth") == 1280


def test_what_was_measured_beyond_one_burst_is_drawn(open_page) -> None:
    opened = open_page(reported(whole()))
    panel = opened.page.locator(".section:visible [aria-labelledby$='-runs']")
    assert panel.get_by_role("heading", name="Beyond one burst").is_visible()
    assert panel.get_by_text("the difference is real", exact=False).first.is_visible()
    assert panel.locator(".canvas svg.main-svg").count() >= 1
    assert panel.locator(".scatterlayer .points path").count() == 60
    assert panel.get_by_role("row", name="SOFTMAX").is_visible()
    assert opened.complaints == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") == 1280


def test_tabs_change_by_mouse_by_keyboard_and_by_address(open_page) -> None:
    opened = open_page(report())
    page = opened.page
    tabs = page.get_by_role("tab")
    tabs.nth(1).click()
    assert page.locator(".section:visible h2").inner_text().endswith("Raspberry Pi 4, 64-bit")
    assert page.locator(".section:visible").get_by_text("What failed").is_visible()
    assert page.locator(".section:visible .canvas svg.main-svg").count() >= 4
    page.keyboard.press("ArrowRight")
    assert tabs.nth(0).get_attribute("aria-selected") == "true"
    assert page.locator(".section:visible h2").inner_text().endswith("Linux PC, x86-64")
    page.get_by_role("link", name="digits-cnn → Raspberry Pi 4").click()
    page.reload()
    assert page.locator(".section:visible h2").inner_text().endswith("Raspberry Pi 4, 64-bit")
    assert opened.complaints == []


def test_tables_sort_and_what_was_not_measured_stays_last(open_page) -> None:
    page = open_page(report()).page
    page.get_by_role("tab").nth(1).click()
    table = "#section-2-measurements"
    p90 = page.locator(f"{table} thead th", has_text="p90")
    p90.get_by_role("button").click()
    assert p90.get_attribute("aria-sort") == "ascending"
    index = column(page, f"{table}", 0)
    assert index[0] == "int8"
    assert column(page, table, 1)[-1].startswith("pi4-lab")
    place = page.locator(f"{table} thead th").all_inner_texts().index("p90")
    rising = column(page, table, place)
    assert rising[:2] == ["227 µs", "632 µs"]
    p90.get_by_role("button").click()
    falling = column(page, table, place)
    assert falling == [*rising[-2::-1], "–"]


def test_tables_filter(open_page) -> None:
    page = open_page(report()).page
    page.get_by_role("tab").nth(1).click()
    box = page.locator(".section:visible .filter input")
    box.fill("emulated int8")
    assert column(page, "#section-2-measurements", 0) == ["int8"]
    assert page.locator(".section:visible .filter [role=status]").inner_text() == "1 of 8 rows"
    box.fill("")
    assert len(column(page, "#section-2-measurements", 0)) == 8


def test_operators_sort_filter_and_follow_the_recipe(open_page) -> None:
    opened = open_page(report())
    page = opened.page
    table = ".section:visible [data-operators] table"
    assert len(column(page, table, 1)) == 7
    page.locator(f"{table} thead button", has_text="MACs").click()
    page.locator(f"{table} thead button", has_text="MACs").click()
    assert column(page, table, 7)[0] == "294,912"
    page.locator(".section:visible [data-operator-filter]").fill("conv_2d")
    assert set(column(page, table, 1)) == {"CONV_2D"}
    page.locator(".section:visible [data-recipe]").select_option(label="int8")
    assert "int8 per-channel" in column(page, table, 4)
    assert len(column(page, table, 1)) == 3
    page.locator(".section:visible [data-operator-filter]").fill("softmax")
    assert column(page, table, 1) == ["SOFTMAX"]
    assert opened.complaints == []


def test_the_distribution_changes_its_kind_and_device(open_page) -> None:
    opened = open_page(report())
    page = opened.page
    page.get_by_role("tab").nth(1).click()
    shown = page.locator(".section:visible [data-distribution]")
    note = page.locator(".section:visible [data-distribution-note]")
    assert shown.locator(".boxlayer .box").count() == 3
    assert note.inner_text().startswith("Raw samples on pi4-lab")
    page.locator(".section:visible [data-device]").select_option(
        label="emulated-aarch64 (emulated)"
    )
    assert shown.locator(".boxlayer .box").count() == 4
    assert "emulated-aarch64 (emulated)" in note.inner_text()
    for kind in ("Cumulative", "In order"):
        button = page.locator(".section:visible").get_by_role("button", name=kind)
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
        assert shown.locator(".scatterlayer .lines path").count() == 4
    assert opened.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_follows_the_system_and_the_button_and_so_do_plots(open_page, scheme) -> None:
    page = open_page(report(), scheme).page

    def look() -> tuple[str, str]:
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        ink = page.locator(".section:visible .xtick text").first.evaluate(
            "tick => getComputedStyle(tick).fill"
        )
        return ground, ink

    def light(color: str) -> bool:
        return sum(map(int, re.findall(r"\d+", color)[:3])) > 380

    before = look()
    assert (light(before[0]), light(before[1])) == (scheme == "light", scheme == "dark")
    page.locator("[data-theme-toggle]").click()
    after = look()
    assert (light(after[0]), light(after[1])) == (scheme == "dark", scheme == "light")


def test_a_point_tells_its_details(open_page) -> None:
    page = open_page(report()).page
    page.locator(".section:visible [data-figure=latency]").scroll_into_view_if_needed()
    points = page.locator(".section:visible [data-figure=latency] .points path.point")
    box = points.nth(3).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    hover = page.locator(".section:visible [data-figure=latency] .hovertext")
    hover.wait_for()
    assert "p90 27.1 µs" in hover.text_content()


def test_a_narrow_page_does_not_scroll_sideways(open_page) -> None:
    opened = open_page(report(), "dark", 390)
    for tab in (0, 1):
        opened.page.get_by_role("tab").nth(tab).click()
        assert opened.page.evaluate("document.documentElement.scrollWidth") == 390
    assert opened.complaints == []


def test_print_shows_every_section(open_page, tmp_path: Path) -> None:
    opened = open_page(report(), "dark")
    opened.page.emulate_media(media="print")
    opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert opened.page.locator(".section:visible").count() == 2
    assert opened.page.locator("details[open]").count() >= 8
    # A plot must not lie over what follows it.
    assert opened.page.evaluate(
        "[...document.querySelectorAll('.canvas')].every("
        "c => c.clientHeight >= c.querySelector('svg.main-svg').getBoundingClientRect().height)"
    )
    opened.page.evaluate("dispatchEvent(new Event('afterprint'))")
    opened.page.emulate_media(media="screen")
    assert opened.page.locator(".section:visible").count() == 1
    pdf = opened.page.pdf(path=tmp_path / "report.pdf")
    assert pdf.startswith(b"%PDF")
    assert opened.complaints == []


def test_hostile_names_do_nothing(open_page) -> None:
    opened = open_page(hostile_report())
    page = opened.page
    assert "<script>alert(1)" in page.locator("h1").inner_text()
    assert page.locator("img").count() == 0
    page.locator("[data-operator-filter]").fill("alert")
    page.locator("[data-kind=ecdf]").click()
    assert opened.complaints == []
    assert len(opened.requests) == 1


@pytest.mark.parametrize("many", [False, True])
def test_a_report_of_nothing_and_a_report_of_much_open(open_page, many: bool) -> None:
    made = build([], [], {}, [])
    if many:
        one = pack("int8")
        packs = [
            replace(one, recipe=f"r{n}", artefact=replace(one.artefact, sha256=sha(f"r{n}")))
            for n in range(60)
        ]
        taken = [
            replace(measurement("int8", device), artefact_sha256=p.artefact.sha256, recipe=p.recipe)
            for device in ("a", "b", "c")
            for p in packs
        ]
        tables = {p.artefact.sha256: operators("int8") for p in packs}
        made = build(packs, taken, tables, [LAPTOP])
    opened = open_page(made)
    assert opened.complaints == []
    rows = opened.page.locator("#section-1-measurements tbody tr").count()
    assert rows == (180 if many else 0)
