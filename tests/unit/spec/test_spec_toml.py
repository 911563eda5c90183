"""Whatever is wrong in a TOML file is told in one line: the file, the key, and a cure."""

from __future__ import annotations

import string
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import SpecError
from edgepack.spec.data import Dataset
from edgepack.spec.device import Device
from edgepack.spec.plan import Plan
from edgepack.spec.recipe import Recipe
from edgepack.spec.target import Target
from edgepack.spec.toml import parse, read_table

TARGET = 'id = "t"\nname = "T"\nkind = "linux"\narch = "aarch64"\nruntimes = ["litert-2.3"]\n'
DEVICE = 'id = "d"\ntarget = "t"\nlink = "local"\n'
RECIPE = 'id = "r"\nscheme = "int8"\n'
MIXED = 'id = "r"\nscheme = "mixed"\n'
DATASET = 'id = "s"\nsource = "npz"\n'
PLAN = 'model = "m.keras"\ntargets = ["t"]\nrecipes = ["int8"]\n'


def told(kind: type, text: str) -> tuple[str, str]:
    """(message, hint) of what is wrong with ``text``."""
    with pytest.raises(SpecError) as caught:
        parse(kind, tomllib.loads(text), "x.toml")
    assert "\n" not in caught.value.message + caught.value.hint
    assert caught.value.message.startswith("x.toml: ")
    return caught.value.message.removeprefix("x.toml: "), caught.value.hint


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Target, TARGET),
        (Device, DEVICE),
        (Recipe, RECIPE),
        (Dataset, DATASET),
        (Plan, PLAN),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_least_that_each_kind_needs(kind, text):
    assert isinstance(parse(kind, tomllib.loads(text), "x"), kind)


@pytest.mark.parametrize(
    ("kind", "text", "key", "hint"),
    [
        (Target, TARGET + "clock_mhs = 1", "clock_mhs", "did you mean 'clock_mhz'?"),
        (Target, TARGET + "[memory]\nram_kb = 1", "memory.ram_kb", "did you mean 'ram_kib'?"),
        (Target, TARGET + "[measure]\nrun = 1", "measure.run", "did you mean 'runs'?"),
        (
            Target,
            TARGET + "[limits]\nmax_latency = 1",
            "limits.max_latency",
            "did you mean 'max_latency_ms'?",
        ),
        (Target, TARGET + "[memory]\nz = 1", "memory.z", "known keys: flash_kib, ram_kib"),
        (Device, DEVICE + "[options]\npyton = 'x'", "options.pyton", "did you mean 'python'?"),
        (Recipe, RECIPE + "schema = 'x'", "schema", "did you mean 'scheme'?"),
        (
            Recipe,
            MIXED + "[[mixed]]\nlayers = '.'\nscheme = 'int8'\nlayer = '.'",
            "mixed[0].layer",
            "did you mean 'layers'?",
        ),
        (
            Dataset,
            DATASET + "[preprocess]\nscales = 1",
            "preprocess.scales",
            "did you mean 'scale'?",
        ),
        (Plan, PLAN + "recipe = 'int8'", "recipe", "did you mean 'recipes'?"),
        (
            Recipe,
            RECIPE + "str = 1",
            "str",
            "known keys: allow_flex, calibrator, description, "
            "io, mixed, otherwise, percentile, scheme, steps",
        ),
        (
            Device,
            DEVICE + '"a[b]" = 1',
            "a[b]",
            "known keys: address, board, description, emulated, link, options, tags, target",
        ),
    ],
)
def test_unknown_keys_at_every_depth(kind, text, key, hint):
    message, found = told(kind, text)
    assert message == f"unknown key '{key}'"
    assert found == hint


def test_known_keys_do_not_offer_what_a_file_may_not_say():
    _, hint = told(Dataset, DATASET + "zzzzzz = 1")
    keys = hint.removeprefix("known keys: ").split(", ")
    assert "source" in keys
    assert not {"id", "folder"} & set(keys)


@pytest.mark.parametrize(
    ("kind", "text", "key"),
    [
        (Target, TARGET.replace('name = "T"\n', ""), "name"),
        (Target, TARGET.replace('runtimes = ["litert-2.3"]\n', ""), "runtimes"),
        (Device, DEVICE.replace('link = "local"\n', ""), "link"),
        (Recipe, 'id = "r"', "scheme"),
        (Recipe, MIXED + "[[mixed]]\nlayers = '.'", "mixed[0].scheme"),
        (Dataset, 'id = "s"', "source"),
        (Plan, PLAN.replace('model = "m.keras"\n', ""), "model"),
    ],
)
def test_missing_keys(kind, text, key):
    message, hint = told(kind, text)
    assert message == f"'{key}' is missing"
    assert hint == f"add {key.rpartition('.')[2]} = …"


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (Target, TARGET + "cores = '4'", "cores: should be a valid integer, found '4'"),
        (Target, TARGET + "cores = true", "cores: should be a valid integer, found True"),
        (Target, TARGET + "cores = 1.5", "cores: should be a valid integer"),
        (Target, TARGET + "clock_mhz = '1'", "clock_mhz: should be a valid number, found '1'"),
        (Target, TARGET.replace('"T"', "3"), "name: should be a valid string, found 3"),
        (Target, TARGET.replace('"T"', "2024-01-02"), "name: should be a valid string, found {"),
        (Target, TARGET.replace('["litert-2.3"]', '"litert-2.3"'), "runtimes: should be a valid"),
        (Target, TARGET.replace('"linux"', '"windows"'), "kind: should be 'linux', 'android' or"),
        (Target, TARGET + "memory = 3", "memory: should be an object, found 3"),
        (Target, TARGET + "[sources]\ncore = 3", "sources.core: should be a valid string"),
        (Device, DEVICE + "emulated = 1", "emulated: should be a valid boolean, found 1"),
        (Device, DEVICE + "emulated = 'yes'", "emulated: should be a valid boolean"),
        (Device, DEVICE.replace("local", "telnet"), "link: should be 'local', 'ssh' or 'adb'"),
        (Recipe, RECIPE.replace("int8", "int7"), "scheme: should be 'float32', 'float16'"),
        (Dataset, DATASET + "[preprocess]\nscale = 'a'", "preprocess.scale: should be a valid"),
        (Dataset, DATASET + "x = 3", "x: should be a valid string, found 3"),
        (Dataset, DATASET + "indices = [1, 'a']", "indices[1]: should be a valid integer"),
    ],
)
def test_wrong_types_are_not_bent_into_shape(kind, text, message):
    assert told(kind, text)[0].startswith(message)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (Target, TARGET + "clock_mhz = 0", "clock_mhz: should be greater than 0, found 0"),
        (Target, TARGET + "clock_mhz = nan", "clock_mhz: should be a finite number, found nan"),
        (Target, TARGET + "clock_mhz = inf", "clock_mhz: should be a finite number, found inf"),
        (Target, TARGET + "cores = 0", "cores: should be greater than or equal to 1, found 0"),
        (Target, TARGET.replace('["litert-2.3"]', "[]"), "runtimes: should have at least 1 item"),
        (Target, TARGET.replace('["litert-2.3"]', '[""]'), "runtimes[0]: String should have at"),
        (Target, TARGET.replace('"T"', '""'), "name: String should have at least 1 character"),
        (Target, TARGET + "[memory]\nram_kib = -1", "memory.ram_kib: should be greater than 0"),
        (Target, TARGET + "[limits]\nmin_accuracy = 91", "limits.min_accuracy: should be less"),
        (Target, TARGET + "[limits]\nmax_accuracy_drop = -0.1", "limits.max_accuracy_drop: should"),
        (Target, TARGET + "[limits]\nmax_latency_ms = 0", "limits.max_latency_ms: should be great"),
        (Target, TARGET + "[measure]\nruns = 0", "measure.runs: should be greater than or equal"),
        (Target, TARGET + "[measure]\nwarmup_runs = -1", "measure.warmup_runs: should be greater"),
        (Target, TARGET + "[measure]\nthreads = -1", "measure.threads: should be greater"),
        (
            Target,
            TARGET + "[measure]\nmin_seconds = 9\nmax_seconds = 3",
            "measure: max_seconds 3 is less than min_seconds 9",
        ),
        (Device, DEVICE + "[options]\ncall_seconds = 0", "options.call_seconds: should be greater"),
        (Device, DEVICE.replace("local", "ssh"), "'address' is missing: link 'ssh' needs"),
        (Recipe, RECIPE + "percentile = 101", "percentile: should be less than or equal to 100"),
        (Recipe, RECIPE + "percentile = 0.9999", "percentile: should be greater than 50"),
        (Recipe, MIXED, "scheme 'mixed' needs at least one [[mixed]] selection"),
        (
            Recipe,
            RECIPE + "[[mixed]]\nlayers = '.'\nscheme = 'int8'",
            "[[mixed]] selections need scheme 'mixed', not 'int8'",
        ),
        (
            Recipe,
            MIXED + "[[mixed]]\nlayers = '('\nscheme = 'int8'",
            "mixed[0]: layers '(' is not a regular expression: missing )",
        ),
        (
            Recipe,
            MIXED + "[[mixed]]\nlayers = 'a{99999999999}'\nscheme = 'int8'",
            "mixed[0]: layers 'a{99999999999}' is not a regular expression: the repetition",
        ),
        (
            Recipe,
            MIXED + '[[mixed]]\nlayers = "(\\n"\nscheme = "int8"',
            "mixed[0]: layers '(\\n' is not a regular expression",
        ),
        (Dataset, DATASET + "count = 0", "count: should be greater than or equal to 1"),
        (Dataset, DATASET + "seed = -1", "seed: should be greater than or equal to 0"),
        (Dataset, DATASET + "indices = []", "indices: should have at least 1 item"),
        (Dataset, DATASET + "indices = [-1]", "indices[0]: should be greater than or equal to 0"),
        (Dataset, DATASET + "count = 1\nindices = [1]", "'count' and 'indices' both choose samp"),
        (
            Dataset,
            DATASET + "sha256 = 'abc'",
            "sha256 should be 64 hexadecimal digits, found 'abc'",
        ),
        (Dataset, DATASET + "[preprocess]\nsize = [0, 4]", "preprocess.size[0]: should be greater"),
        (Dataset, DATASET + "[preprocess]\nscale = nan", "preprocess.scale: should be a finite"),
        (Dataset, DATASET + "[preprocess]\nscale = 0.0", "preprocess: scale 0 makes every input"),
        (Dataset, DATASET + "[preprocess]\nscale = [1.0, 0.0]", "preprocess: scale 0 makes every"),
        (Plan, PLAN.replace('["t"]', "[]"), "targets: should have at least 1 item"),
        (Plan, PLAN + "seed = -3", "seed: should be greater than or equal to 0, found -3"),
    ],
)
def test_values_that_make_no_sense(kind, text, message):
    assert told(kind, text)[0].startswith(message)


def test_a_long_value_is_told_in_part_and_a_key_with_line_breaks_in_one_line():
    message, _ = told(Target, TARGET + "cores = " + str(list(range(500))))
    assert message.startswith("cores: should be a valid integer, found [0, 1, 2")
    assert message.endswith("…")
    assert len(message) < 120
    assert told(Target, TARGET + '"a\\nb\\r" = 1')[0] == "unknown key 'a\\nb\\r'"


def test_good_values_of_all_kinds_arrive():
    target = parse(
        Target,
        tomllib.loads(
            TARGET + "clock_mhz = 1500\n[memory]\nram_kib = 2.5\n[measure]\nwarmup_runs = 0\n"
            "[limits]\nmin_accuracy = 1\n[sources]\ncore = 'https://example.org'"
        ),
        "x",
    )
    assert target.clock_mhz == 1500.0
    assert target.memory.ram_kib == 2.5
    assert target.measure.warmup_runs == 0
    assert target.limits.min_accuracy == 1.0
    assert target.sources == {"core": "https://example.org"}
    dataset = parse(
        Dataset,
        tomllib.loads(
            DATASET + "x = ['a', 'b']\nindices = [3, 1]\nsha256 = '" + "0a" * 32 + "'\n"
            "[preprocess]\nscale = [1, 0.5]\nsize = [96, 96]"
        ),
        "x",
    )
    assert dataset.x == ("a", "b")
    assert dataset.indices == (3, 1)
    assert dataset.preprocess.scale == (1.0, 0.5)
    device = parse(Device, tomllib.loads(DEVICE + "emulated = true"), "x")
    assert device.emulated


@given(st.text(string.ascii_lowercase + '_[]."', min_size=1, max_size=12), st.integers())
def test_any_key_that_a_target_does_not_know_is_named(key, value):
    table = tomllib.loads(TARGET)
    if key not in Target.__dataclass_fields__:
        with pytest.raises(SpecError) as caught:
            parse(Target, {**table, key: value}, "x.toml")
        assert key in caught.value.message
        assert caught.value.hint


@given(
    st.dictionaries(
        st.sampled_from(["id", "name", "kind", "cores", "memory", "limits", "runtimes", "q"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(st.sampled_from(["ram_kib", "str", "0"]), inner, max_size=2)
            ),
            max_leaves=5,
        ),
    )
)
def test_any_table_is_a_target_or_one_clear_line(table):
    message = "x.toml: "
    try:
        parse(Target, table, "x.toml")
    except SpecError as error:
        message = error.message
    assert message.startswith("x.toml: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name = ", "not valid TOML: Invalid value (at end of document)"),
        (b"a = 1\na = 2\n", "not valid TOML: Cannot overwrite a value (at line 2, column 6)"),
        (b"\xff\xfe", "not valid TOML: 'utf-8' codec can't decode"),
        (b"a = " + b"[" * 100_000, "not valid TOML: nested too deeply"),
    ],
)
def test_what_is_not_toml(tmp_path, content, message):
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        read_table(path)
    assert caught.value.message.startswith(f"{path}: {message}")


def test_a_missing_file_and_one_that_cannot_be_read(tmp_path):
    with pytest.raises(SpecError, match=r"none\.toml: no such file") as caught:
        read_table(tmp_path / "none.toml")
    assert "list" in caught.value.hint
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        read_table(tmp_path)


def test_a_table_is_read_as_it_is(tmp_path):
    path: Path = tmp_path / "x.toml"
    path.write_text("a = 1\n[b]\nc = [2]\n")
    assert read_table(path) == {"a": 1, "b": {"c": [2]}}
