from __future__ import annotations

import math
from dataclasses import replace

import pytest

from edgepack.records import ErrorRecord, MeasuredMemory, PackMemory, Quality, Verdict
from edgepack.reporting.judge import judge
from edgepack.spec.target import Limits, Target
from tests.unit.reporting.realistic import BOARD, LAPTOP, measurement, pack, sha

MCU = replace(LAPTOP, id="cortex-m4", kind="mcu", arch="armv7e-m")


def only(limits: Limits, packs: list, taken: list, target: Target = LAPTOP) -> Verdict:
    (verdict,) = judge(replace(target, limits=limits), packs, taken)
    return verdict


def with_p90(microseconds: float, **changes: object):
    taken = measurement("int8", **changes)
    return replace(taken, latency_us=replace(taken.latency_us, p90=microseconds))


def test_no_limits_no_verdicts() -> None:
    assert judge(replace(LAPTOP, limits=Limits()), [pack("int8")], [measurement("int8")]) == ()


@pytest.mark.parametrize(("p90", "met"), [(110.0, True), (5000.0, True), (5000.1, False)])
def test_latency_is_judged_by_p90(p90: float, met: bool) -> None:
    verdict = only(Limits(max_latency_ms=5), [pack("int8")], [with_p90(p90)])
    assert verdict.met is met
    assert verdict.found == p90 / 1000
    assert verdict.device == "this-machine"


def test_sentences_have_numbers_and_units() -> None:
    verdict = only(Limits(max_latency_ms=5), [pack("int8")], [with_p90(110.0)])
    assert verdict.sentence == "int8 on this-machine: p90 0.11 ms, limit 5 ms"
    missed = only(Limits(max_latency_ms=5), [pack("int8")], [with_p90(5000.4)])
    assert missed.sentence == "int8 on this-machine: p90 5.0004 ms, limit 5 ms"


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    verdict = only(Limits(max_latency_ms=5), [pack("int8")], [])
    assert (verdict.met, verdict.found, verdict.device) == (None, None, None)
    assert verdict.sentence == "int8: p90 not measured, limit 5 ms"


def test_a_failed_measurement_says_its_status() -> None:
    gone = measurement("int8", status="unreachable", latency_us=None, memory=None)
    verdict = only(Limits(max_latency_ms=5), [pack("int8")], [gone])
    assert verdict.met is None
    assert "not measured (unreachable)" in verdict.sentence


def test_a_failed_pack_has_open_verdicts_for_every_limit() -> None:
    broken = pack(
        "int8", status="failed", artefact=None, quality=None, memory=None,
        error=ErrorRecord(code=3, message="no"),
    )  # fmt: skip
    limits = Limits(
        max_latency_ms=1, max_ram_kib=1, max_flash_kib=1, min_accuracy=0.5, max_accuracy_drop=0.1
    )
    found = judge(replace(LAPTOP, limits=limits), [broken], [])
    assert [v.limit for v in found] == [
        "max_latency_ms", "max_ram_kib", "max_flash_kib", "min_accuracy", "max_accuracy_drop",
    ]  # fmt: skip
    assert {v.met for v in found} == {None}
    assert all("not measured" in v.sentence for v in found)


def test_the_latency_of_an_emulated_device_is_not_judged() -> None:
    slow = with_p90(9000.0, device="emulated-pi", emulated=True)
    verdict = only(Limits(max_latency_ms=5), [pack("int8")], [slow])
    assert (verdict.met, verdict.found) == (None, None)
    assert verdict.sentence == "int8 on emulated-pi (emulated): p90 not judged, limit 5 ms"


def test_a_device_of_another_target_is_not_judged() -> None:
    elsewhere = with_p90(9000.0, device="pi4-lab", target=BOARD.id)
    verdict = only(Limits(max_latency_ms=5), [pack("int8")], [elsewhere])
    assert (verdict.met, verdict.device) == (None, None)


def test_packs_of_another_target_are_not_judged() -> None:
    assert judge(LAPTOP, [pack("int8", BOARD.id)], []) == ()


@pytest.mark.parametrize(("share", "met"), [(1024, True), (1025, False), (None, None)])
def test_ram_is_the_models_share_of_the_peak(share: int | None, met: bool | None) -> None:
    memory = MeasuredMemory(peak_rss_bytes=50_000_000, model_bytes=share)
    taken = measurement("int8", memory=memory)
    verdict = only(Limits(max_ram_kib=1), [pack("int8")], [taken])
    assert verdict.met is met
    if share:
        assert "model's memory 1" in verdict.sentence


def test_ram_of_a_microcontroller_is_its_arena_measured_before_planned() -> None:
    made = pack("int8", MCU.id, memory=PackMemory(arena_bytes=4096))
    planned = only(Limits(max_ram_kib=3), [made], [], MCU)
    assert (planned.met, planned.found, planned.device) == (False, 4.0, None)
    taken = measurement("int8", "qemu-m4", MCU.id, memory=MeasuredMemory(arena_bytes=2048))
    measured = only(Limits(max_ram_kib=3), [made], [taken], MCU)
    assert (measured.met, measured.found, measured.device) == (True, 2.0, "qemu-m4")
    assert measured.sentence == "int8 on qemu-m4: arena 2 KiB, limit 3 KiB"
    silent = measurement("int8", "qemu-m4", MCU.id, memory=None)
    fallback = only(Limits(max_ram_kib=3), [made], [silent], MCU)
    assert (fallback.found, fallback.device) == (4.0, None)
    unplanned = only(Limits(max_ram_kib=3), [replace(made, memory=None)], [silent], MCU)
    assert (unplanned.met, unplanned.device) == (None, "qemu-m4")


def test_flash_is_the_files_size() -> None:
    verdict = only(Limits(max_flash_kib=30), [pack("int8")], [measurement("int8")])
    assert (verdict.met, verdict.device) == (False, None)
    assert verdict.sentence == "int8: file 30.6 KiB, limit 30 KiB"


def test_accuracy_is_the_devices_before_the_hosts() -> None:
    limits = Limits(min_accuracy=0.9)
    there = measurement("int8", quality=Quality(metric="top1", host=0.95, device=0.85))
    verdict = only(limits, [pack("int8")], [there])
    assert (verdict.met, verdict.found, verdict.device) == (False, 0.85, "this-machine")
    assert verdict.sentence == "int8 on this-machine: top1 85 %, limit at least 90 %"
    silent = measurement("int8", quality=None)
    host = only(limits, [pack("int8")], [silent])
    assert (host.met, host.found, host.device) == (True, 0.9778, None)


def test_an_error_metric_is_not_judged_by_a_least_accuracy() -> None:
    made = pack("int8", quality=Quality(metric="mae", reference=0.1, host=0.2))
    verdict = only(Limits(min_accuracy=0.9), [made], [])
    assert verdict.met is None
    assert "lower is better" in verdict.sentence


def test_an_unknown_accuracy_is_open() -> None:
    nan = pack("int8", quality=Quality(metric="top1", reference=0.9, host=math.nan))
    verdict = only(Limits(min_accuracy=0.9), [nan], [])
    assert (verdict.met, verdict.found) == (None, None)
    assert "nan" not in verdict.sentence


@pytest.mark.parametrize(("host", "met"), [(0.8671, True), (0.8670, False), (0.99, True)])
def test_the_drop_counts_from_keras(host: float, met: bool) -> None:
    # 0.8771 - 0.8671 is above 0.01 in binary: the comparison must not trip over that.
    made = pack("int8", quality=Quality(metric="top1", reference=0.8771, host=host))
    verdict = only(Limits(max_accuracy_drop=0.01), [made], [])
    assert verdict.met is met
    assert "top1 drop from Keras" in verdict.sentence
    assert verdict.sentence.endswith("limit 1 point")


def test_the_drop_counts_from_float32_where_keras_was_not_evaluated() -> None:
    base = pack("float32", quality=Quality(metric="top1", host=0.95))
    made = pack("int8", quality=Quality(metric="top1", host=0.90))
    verdicts = judge(
        replace(LAPTOP, limits=Limits(max_accuracy_drop=0.01)), [base, made], []
    )  # fmt: skip
    assert [v.met for v in verdicts] == [True, False]
    assert verdicts[1].found == pytest.approx(0.05)
    assert verdicts[1].sentence == "int8: top1 drop from float32 5 points, limit 1 point"


def test_no_drop_between_different_metrics_or_without_any_reference() -> None:
    limits = Limits(max_accuracy_drop=0.01)
    made = pack("int8", quality=Quality(metric="top1", host=0.90))
    alone = only(limits, [made], [])
    assert alone.met is None
    assert "no reference" in alone.sentence
    base = pack("float32", quality=Quality(metric="auc", host=0.95))
    verdicts = judge(replace(LAPTOP, limits=limits), [base, made], [])
    assert verdicts[1].met is None


def test_an_error_that_rises_is_a_drop() -> None:
    made = pack("int8", quality=Quality(metric="mae", reference=0.10, host=0.15))
    verdict = only(Limits(max_accuracy_drop=0.01), [made], [])
    assert verdict.met is False
    assert verdict.sentence == "int8: mae rise from Keras 0.05, limit 0.01"


def test_two_runners_and_two_models_are_told_apart() -> None:
    first = measurement("int8")
    second = replace(first, runtime=replace(first.runtime, runner="native"))
    other = replace(
        pack("int8"), model="other", artefact=replace(pack("int8").artefact, sha256="0")
    )
    verdicts = judge(
        replace(LAPTOP, limits=Limits(max_latency_ms=5)), [pack("int8"), other], [first, second]
    )
    assert [v.device for v in verdicts] == [
        "this-machine (litert-python)", "this-machine (native)", None,
    ]  # fmt: skip
    assert verdicts[0].sentence.startswith("digits-cnn int8 on")
    assert verdicts[2].sentence.startswith("other int8: p90 not measured")


def test_equal_bytes_are_judged_under_the_recipe_that_was_measured() -> None:
    twin = replace(pack("float16"), artefact=replace(pack("float16").artefact, sha256=sha("int8")))
    verdicts = judge(
        replace(LAPTOP, limits=Limits(max_latency_ms=5)),
        [pack("int8"), twin],
        [measurement("int8")],
    )
    assert [v.met for v in verdicts] == [True, None]
