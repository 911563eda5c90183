"""Records round-trip through strict JSON, match their schemas, and keep the contract's names."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

import edgepack.records as records
from edgepack.files import to_json
from edgepack.records import (
    SCHEMAS,
    Agreement,
    Artefact,
    Cost,
    DeviceRecord,
    Facts,
    FactsMemory,
    Fit,
    Instructions,
    Latency,
    MeasuredMemory,
    Measurement,
    Pack,
    PackMemory,
    Quality,
    Report,
    RuntimeRecord,
    Skipped,
    StepRecord,
    from_dict,
    json_schema,
    to_dict,
)

FOLDER = Path(records.__file__).parents[1] / "schemas"
VALIDATORS = {
    kind: Draft202012Validator(json.loads((FOLDER / f"{name}.json").read_text()))
    for name, kind in SCHEMAS.items()
}
MOMENT = "2026-11-23T20:15:00+00:00"
WORDS = st.text(max_size=8)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: WORDS,
    int: st.integers(-(2**53), 2**53),
    float: NUMBERS,
    bool: st.booleans(),
    NoneType: st.none(),
    Any: st.recursive(st.none() | NUMBERS | WORDS, lambda inner: st.lists(inner, max_size=2)),
}
CONTRACT = {  # the fields that others script against, to the letter
    Pack: "schema model target recipe seed versions status error artefact signature cost memory "
    "quality steps fit",
    Artefact: "path sha256 size_bytes gzip_bytes",
    Cost: "params macs",
    PackMemory: "arena_bytes",
    Quality: "metric reference host samples",
    StepRecord: "name changed skipped seconds before after",
    Skipped: "layer why",
    Fit: "ok reasons",
    Measurement: "schema artefact_sha256 pack_sha256 device runtime latency_us samples_us init_us "
    "first_us instructions memory agreement quality started_at status error",
    DeviceRecord: "id link target emulated state",
    RuntimeRecord: "name version threads delegate runner",
    Latency: "n mean std min p50 p90 p99 max ci95",
    Instructions: "n mean",
    MeasuredMemory: "peak_rss_bytes model_bytes arena_bytes stack_bytes flash_bytes",
    Agreement: "samples max_abs max_abs_lsb top1_match first_divergence",
    Facts: "file size_bytes signatures operators tensors cost memory sparsity custom_ops fit",
    FactsMemory: "arena_bytes lower_bound_bytes",
    records.ErrorRecord: "code message hint",
}
STATUSES = "ok failed unsupported unreachable throttled interrupted unchecked"


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a type, built from the type alone so that a new field is tested too."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in PLAIN:
        return PLAIN[hint]
    if is_dataclass(hint):
        return built(hint)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, UnionType):
        return st.one_of([values(argument) for argument in arguments])
    if origin is dict:
        return st.dictionaries(WORDS, values(arguments[1]), max_size=2)
    assert origin is tuple, hint
    if arguments[1:] == (Ellipsis,):
        return st.lists(values(arguments[0]), max_size=2).map(tuple)
    return st.tuples(*[values(argument) for argument in arguments])


def built(kind: type) -> st.SearchStrategy[Any]:
    """Records of a kind, every field given."""
    hints = get_type_hints(kind)
    given_ = {field.name: values(hints[field.name]) for field in fields(kind)}
    for name in {"started_at", "created_at"} & set(given_):
        given_[name] = st.datetimes().map(lambda when: when.isoformat() + "Z")
    return st.builds(kind, **given_)


def any_tuple(value: Any) -> bool:
    """Whether a tuple is anywhere inside."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return isinstance(value, tuple) or any(any_tuple(item) for item in inner)


def a_measurement(**changes: Any) -> Measurement:
    """A small measurement."""
    device = DeviceRecord(id="d", link="local", target="t", emulated=False)
    return Measurement(
        **{
            "artefact_sha256": "0" * 64,
            "pack_sha256": None,
            "device": device,
            "started_at": MOMENT,
            "status": "ok",
            **changes,
        }
    )


@pytest.mark.parametrize("kind", SCHEMAS.values(), ids=list(SCHEMAS))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_records_round_trip_through_strict_json_that_fits_their_schema(kind, data):
    record = data.draw(built(kind))
    plain = to_dict(record)
    assert next(iter(plain)) == "schema"
    assert not any_tuple(plain)
    read = json.loads(to_json(plain))
    assert from_dict(kind, read) == record
    VALIDATORS[kind].validate(read)


@pytest.mark.parametrize("kind", CONTRACT, ids=lambda kind: kind.__name__)
def test_every_field_of_the_contract_is_there_by_that_name(kind):
    names = {field.name for field in fields(kind)}
    assert set(CONTRACT[kind].split()) <= names


def test_statuses_are_the_contracts():
    assert get_args(records.Status) == tuple(STATUSES.split())


@pytest.mark.parametrize(("name", "kind"), SCHEMAS.items())
def test_each_document_says_which_version_it_is(name, kind):
    tag = f"edgepack.{name.replace('-', '/')}"
    assert {f.name: f.default for f in fields(kind)}["schema"] == tag
    assert json_schema(kind)["properties"]["schema"]["const"] == tag


def test_every_record_is_frozen_and_named_on_use():
    kinds = [kind for kind in vars(records).values() if is_dataclass(kind)]
    assert len(kinds) >= 25
    for kind in kinds:
        assert kind.__dataclass_params__.frozen, kind
        assert all(field.kw_only for field in fields(kind)), kind
        assert issubclass(kind, records.Record), kind
    with pytest.raises(FrozenInstanceError):
        Fit(ok=True).ok = False


def test_a_part_of_a_record_needs_no_schema_tag():
    assert to_dict(Fit(ok=False, reasons=("a", "b"))) == {"ok": False, "reasons": ["a", "b"]}
    assert json_schema(Fit)["title"] == "Fit"


def test_a_typo_fails_on_reading_and_in_the_schema():
    plain = to_dict(a_measurement()) | {"artifact": "x"}
    with pytest.raises(ValidationError, match="artifact"):
        from_dict(Measurement, plain)
    assert not VALIDATORS[Measurement].is_valid(plain)


def test_a_typo_inside_a_part_fails_too():
    plain = to_dict(a_measurement())
    plain["device"]["target_id"] = "x"
    with pytest.raises(ValidationError, match="target_id"):
        from_dict(Measurement, plain)
    assert not VALIDATORS[Measurement].is_valid(plain)


@pytest.mark.parametrize("key", [field.name for field in fields(Measurement)])
def test_the_schema_asks_for_every_field(key):
    plain = to_dict(a_measurement())
    VALIDATORS[Measurement].validate(plain)
    del plain[key]
    assert not VALIDATORS[Measurement].is_valid(plain)


@pytest.mark.parametrize(
    "moment", ["2026-11-23 20:15", "2026-11-23T20:15:00", "2026-11-23T21:15:00+01:00", "now"]
)
def test_the_schema_takes_moments_in_utc_only(moment):
    assert not VALIDATORS[Measurement].is_valid(to_dict(a_measurement(started_at=moment)))


def test_the_schema_takes_moments_of_reports_in_utc_only():
    report = Report(title="t", created_at=MOMENT, versions={}, sections=())
    VALIDATORS[Report].validate(to_dict(report))
    plain = to_dict(report) | {"created_at": "yesterday"}
    assert not VALIDATORS[Report].is_valid(plain)


@pytest.mark.parametrize(
    "change", [{"status": "fine"}, {"init_us": "fast"}, {"samples_us": 3.0}, {"schema": "x/1"}]
)
def test_wrong_values_fail_on_reading_and_in_the_schema(change):
    plain = to_dict(a_measurement()) | change
    with pytest.raises(ValidationError):
        from_dict(Measurement, plain)
    assert not VALIDATORS[Measurement].is_valid(plain)


def test_a_number_that_json_does_not_know_becomes_null_where_null_is_allowed():
    plain = json.loads(to_json(to_dict(a_measurement(init_us=float("nan")))))
    assert plain["init_us"] is None
    assert from_dict(Measurement, plain).init_us is None
