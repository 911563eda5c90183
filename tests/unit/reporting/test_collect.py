from __future__ import annotations

from dataclasses import replace

import pytest

from edgepack.records import Fit, MeasuredMemory, Quality
from edgepack.reporting import plots, sizes
from edgepack.reporting.cells import cells
from edgepack.reporting.choice import best, candidate, frontier
from edgepack.reporting.collect import baseline, build
from edgepack.reporting.headline import cards
from tests.unit.reporting.realistic import (
    BOARD,
    LAPTOP,
    RECIPES,
    failed,
    measurement,
    operators,
    pack,
    report,
    sha,
)


def section(packs, taken=(), targets=(LAPTOP,), tables=None):
    (found,) = build(packs, taken, tables or {}, targets).sections
    return found


def test_one_section_for_each_model_and_target() -> None:
    found = report()
    assert [(s.model, s.target, s.target_name) for s in found.sections] == [
        ("digits-cnn", LAPTOP.id, LAPTOP.name),
        ("digits-cnn", BOARD.id, BOARD.name),
    ]
    assert [len(s.measurements) for s in found.sections] == [4, 8]
    assert [len(s.packs) for s in found.sections] == [4, 4]


def test_operators_are_found_by_the_artefacts_hash() -> None:
    found = section([pack("int8"), pack("float16")], tables={sha("int8"): operators("int8")})
    assert set(found.operators) == {"int8"}
    assert found.operators["int8"] == operators("int8")


def test_equal_artefacts_go_to_the_target_of_the_device() -> None:
    packs = [pack("int8", LAPTOP.id), pack("int8", BOARD.id)]
    taken = [measurement("int8", "pi4-lab", BOARD.id), measurement("int8", "odd", "elsewhere")]
    here, there = build(packs, taken, {}, [LAPTOP, BOARD]).sections
    assert [m.device.id for m in there.measurements] == ["pi4-lab"]
    assert [m.device.id for m in here.measurements] == ["odd"]


def test_a_measurement_without_a_pack_has_a_section_of_its_own() -> None:
    lone = measurement("int8", model="", recipe="")
    found = section([], [lone])
    assert (found.model, found.target, found.packs) == (sha("int8")[:12], LAPTOP.id, ())
    (cell,) = cells(found)
    assert (cell.pack, cell.recipe, cell.status) == (None, sha("int8")[:12], "ok")


def test_a_target_without_a_spec_is_shown_but_not_judged() -> None:
    found = section([pack("int8")], [measurement("int8")], targets=())
    assert (found.target_name, found.verdicts) == (LAPTOP.id, ())


def test_created_now_in_utc_and_versions_kept() -> None:
    found = build([], [], {}, [], versions={"edgepack": "1"}, command="x", title="t")
    assert (found.sections, found.versions, found.command) == ((), {"edgepack": "1"}, "x")
    assert found.created_at.endswith("Z")


def test_the_baseline_is_float32_else_the_first_that_was_made() -> None:
    assert baseline([pack("int8"), pack("float32")]) == "float32"
    assert baseline([pack("int8", status="failed"), pack("float16")]) == "float16"
    assert baseline([]) is None


def test_cells_join_packs_and_measurements() -> None:
    found = cells(section([pack("int8"), pack("dynamic")], [measurement("int8")]))
    assert [(c.recipe, c.label, c.status) for c in found] == [
        ("int8", "this-machine", "ok"),
        ("dynamic", "", "not measured"),
    ]
    assert found[1].error is None


def test_a_failed_cell_keeps_its_error() -> None:
    found = cells(section([pack("dynamic", BOARD.id)], [failed()], [BOARD]))
    assert found[0].status == "unreachable"
    assert found[0].error is not None
    assert found[0].error.code == 5
    broken = pack("dynamic", status="failed", error=found[0].error)
    (cell,) = cells(section([broken]))
    assert (cell.status, cell.error) == ("failed", broken.error)


def test_a_recipe_of_another_name_still_finds_its_only_artefact() -> None:
    found = cells(section([pack("int8")], [measurement("int8", recipe="", model="")]))
    assert [(c.recipe, c.label) for c in found] == [("int8", "this-machine")]


def test_the_best_keeps_every_limit() -> None:
    here, there = report().sections
    assert best(here).recipe == "int8"
    assert best(there).recipe == "int8"
    lossy = pack("int8", quality=Quality(metric="top1", reference=0.98, host=0.95, samples=360))
    packs = [pack("float32"), pack("float16"), lossy]
    assert best(section(packs)).recipe == "float16"
    unfit = pack("float16", fit=Fit(ok=False, reasons=("needs 2, has 1",)))
    assert best(section([pack("float32"), unfit, lossy])) is None
    assert candidate(section([pack("float32"), unfit, lossy])).recipe == "int8"
    assert candidate(section([pack("float32")])) is None
    assert cards(section([pack("float32")]), []) == []
    assert cards(section([pack("float32", status="failed")]), []) == []


@pytest.mark.parametrize(("host", "chosen"), [(0.9707, "int8"), (0.9705, "float16")])
def test_the_best_loses_at_most_a_point_against_the_baseline(host: float, chosen: str) -> None:
    near = pack("int8", quality=Quality(metric="top1", reference=0.99, host=host, samples=360))
    packs = [pack("float32"), pack("float16"), near]  # the baseline has 0.9806
    assert best(section(packs, targets=())).recipe == chosen


def test_the_best_balances_size_latency_and_memory() -> None:
    def chosen(**dynamic: object) -> str:
        packs = [pack("float32"), pack("dynamic"), pack("int8")]
        taken = [measurement(r) for r in ("float32", "int8")]
        taken.append(measurement("dynamic", **dynamic))
        return best(section(packs, taken)).recipe

    int8, dynamic = measurement("int8"), measurement("dynamic")
    assert chosen() == "int8"
    faster = replace(dynamic.latency_us, p50=int8.latency_us.p50 / 2)
    assert chosen(latency_us=faster) == "dynamic"
    assert chosen(memory=MeasuredMemory(model_bytes=100_000)) == "dynamic"
    # Not known for all: memory then counts by the planned arena, where int8 is far ahead.
    assert chosen(memory=None) == "int8"
    # What the main device never timed comes after what it did.
    assert chosen(latency_us=None, memory=None) == "int8"


def test_a_recommendation_without_any_timing_goes_by_size_and_arena() -> None:
    packs = [pack("float32"), pack("float16"), pack("dynamic")]
    assert best(section(packs)).recipe == "dynamic"
    assert best(section([replace(p, memory=None) for p in packs])).recipe == "dynamic"


def test_an_error_metric_of_any_scale_does_not_rule_a_pack_out() -> None:
    off = pack("int8", quality=Quality(metric="mae", reference=100.0, host=140.0))
    assert best(section([pack("float32"), off], targets=())).recipe == "int8"


def test_cards_say_what_changed() -> None:
    here = report().sections[0]
    found = {card.title: card for card in cards(here, cells(here))}
    assert list(found) == ["File size", "Median latency", "Accuracy (top1)", "Memory"]
    assert found["File size"].change == "3.31× smaller"
    assert found["File size"].better is True
    assert "gzip 92 KiB → 23.5 KiB" in found["File size"].detail
    assert found["Median latency"].better is True
    assert found["Median latency"].detail.endswith("this-machine")
    # One sample of 360 is noise: neither better nor worse.
    assert (found["Accuracy (top1)"].change, found["Accuracy (top1)"].better) == (
        "−0.28 points",
        None,
    )
    assert found["Memory"].change == "1.6× less"


def test_the_card_of_latency_prefers_a_real_device_of_the_target() -> None:
    there = report().sections[1]
    latency = next(c for c in cards(there, cells(there)) if "latency" in c.title)
    assert latency.detail.endswith("pi4-lab")
    packs = [pack("float32", BOARD.id), pack("int8", BOARD.id)]
    taken = [measurement(r, "emu", BOARD.id, emulated=True) for r in ("float32", "int8")]
    emulated = section(packs, taken, [BOARD])
    latency = next(c for c in cards(emulated, cells(emulated)) if "latency" in c.title)
    assert latency.detail.endswith("emu (emulated)")


def test_overlapping_intervals_are_no_difference() -> None:
    one = measurement("float32")
    same = replace(one.latency_us, p50=one.latency_us.p50 * 1.001)
    taken = [one, measurement("int8", latency_us=same)]
    found = section([pack("float32"), pack("int8")], taken)
    latency = next(c for c in cards(found, cells(found)) if "latency" in c.title)
    assert (latency.change, latency.better) == ("no clear difference", None)


def test_memory_falls_back_to_the_planned_arena_or_to_nothing() -> None:
    packs = [pack("float32"), pack("int8")]
    found = section(packs)
    memory = next(c for c in cards(found, cells(found)) if c.title == "Memory")
    assert (memory.before, memory.after, memory.detail) == (
        "12 KiB", "3 KiB", "planned activation arena",
    )  # fmt: skip
    taken = [measurement(r, memory=MeasuredMemory()) for r in ("float32", "int8")]
    unplanned = section([replace(p, memory=None, quality=None) for p in packs], taken)
    assert [c.title for c in cards(unplanned, cells(unplanned))] == ["File size", "Median latency"]


def test_the_same_accuracy_and_a_real_loss() -> None:
    def accuracy(host: float, samples: int):
        after = pack("int8", quality=Quality(metric="top1", host=host, samples=samples))
        found = section([pack("float32"), after])
        return next(c for c in cards(found, cells(found)) if c.title.startswith("Accuracy"))

    assert accuracy(0.9806, 0).change == "the same"
    assert (accuracy(0.975, 1_000_000).better, accuracy(0.99, 1_000_000).better) == (False, True)


def test_the_frontier_holds_what_no_other_beats() -> None:
    points = [(3.0, 0.9), (1.0, 0.8), (2.0, 0.8), (4.0, 0.85), (3.0, 0.95)]
    assert frontier(points) == [1, 4]
    assert frontier([]) == []


def test_tradeoffs_draw_limits_fronts_and_emulated_devices() -> None:
    here, there = report().sections
    size = plots.size_tradeoff(here, cells(here))
    (limit,) = size["layout"]["shapes"]
    assert (limit["x0"], limit["label"]["text"]) == (60, "limit 60 KiB")
    assert size["summary"].endswith("Pareto front: int8, float16.")
    assert "The floor, 95 %, lies outside the plot." in size["summary"]
    latency = plots.latency_tradeoff(there, cells(there))
    names = [trace.get("name") for trace in latency["data"] if trace.get("name")]
    assert names == ["pi4-lab", "emulated-aarch64 (emulated)"]
    assert latency["data"][3]["marker"]["symbol"].endswith("-open")
    assert "dynamic" not in latency["data"][1]["text"]
    assert latency["layout"]["showlegend"] is True


def test_a_floor_that_is_near_is_drawn_and_a_limit_that_is_far_is_told() -> None:
    near = replace(LAPTOP, limits=replace(LAPTOP.limits, min_accuracy=0.977, max_flash_kib=9999))
    found = section([pack("float32"), pack("int8")], targets=[near])
    size = plots.size_tradeoff(found, cells(found))
    (floor,) = size["layout"]["shapes"]
    assert (floor["y0"], floor["label"]["text"]) == (97.7, "at least 97.7 %")
    assert size["layout"]["yaxis"]["range"][0] < 97.7
    assert "The limit, 9,999 KiB, lies outside the plot." in size["summary"]


def test_errors_are_drawn_with_the_better_end_up() -> None:
    packs = [
        pack(r, quality=Quality(metric="mae", reference=0.1, host=h))
        for r, h in (("float32", 0.1), ("int8", 0.2))
    ]
    found = section(packs, targets=())
    size = plots.size_tradeoff(found, cells(found))
    assert size["layout"]["yaxis"]["autorange"] == "reversed"
    assert size["summary"].endswith("Pareto front: int8, float32.")


def test_costs_that_differ_widely_get_a_logarithmic_axis() -> None:
    packs = [pack("float32"), pack("int8")]
    taken = [measurement("float32", factor=100), measurement("int8")]
    found = section(packs, taken)
    assert plots.latency_tradeoff(found, cells(found))["layout"]["xaxis"]["type"] == "log"
    alone = section(packs[:1], taken[:1], targets=())
    latency = plots.latency_tradeoff(alone, cells(alone))
    low, high = latency["layout"]["xaxis"]["range"]
    assert low < latency["data"][1]["x"][0] < high


def test_no_tradeoff_without_accuracy() -> None:
    found = section([pack("int8", quality=None)], [measurement("int8", quality=None)])
    assert plots.size_tradeoff(found, cells(found)) is None
    assert plots.latency_tradeoff(found, cells(found)) is None


@pytest.mark.parametrize("runs", [200, 2500])
def test_distributions_keep_the_order_and_at_most_a_thousand(runs: int) -> None:
    found = section([pack("int8")], [measurement("int8", runs=runs)])
    (group,) = plots.distribution(found, cells(found))
    (cell,) = group["cells"]
    every = 1 if runs == 200 else 3
    assert (cell["of"], cell["every"]) == (runs, every)
    raw = found.measurements[0].samples_us
    assert cell["samples"][:2] == pytest.approx([raw[0], raw[every]], rel=1e-4)
    assert len(cell["samples"]) <= 1000


def test_bytes_of_a_file_by_what_they_hold() -> None:
    found = sizes.parts(operators("int8"), 31_344)
    assert found == {"int8 weights": 23_946, sizes.REST: 7_398}
    # Shared weights are counted by every operator, but lie in the file once.
    assert sizes.parts(operators("int8"), 20_000) == {"int8 weights": 20_000, sizes.REST: 0}
    assert sizes.parts((), 5) == {"file": 5}


def test_the_breakdown_has_a_bar_for_every_file() -> None:
    drawn = sizes.breakdown(report().sections[0])
    assert [trace["name"] for trace in drawn["data"]] == [
        "float32 weights", "float16 weights", "int8 weights", sizes.REST, "gzip",
    ]  # fmt: skip
    assert drawn["data"][0]["y"] == list(RECIPES)
    assert sizes.breakdown(section([pack("int8", artefact=None)])) is None
