"""Specs are found by id or path, a user's before the shipped ones, and a target may extend one."""

from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest

from edgepack.errors import SpecError
from edgepack.spec import library
from edgepack.spec.data import Dataset
from edgepack.spec.device import Device
from edgepack.spec.library import find, load, paths, shipped, user_folders
from edgepack.spec.recipe import Recipe
from edgepack.spec.target import Target

BASE = 'name = "{}"\nkind = "linux"\narch = "aarch64"\nruntimes = ["litert-2.3"]\n'


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Nothing of the machine's own is found: neither its folders nor its configuration."""
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    monkeypatch.setattr(platformdirs, "user_config_path", lambda name: tmp_path / "config" / name)


def put(folder: Path, name: str, text: str) -> Path:
    """A spec file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def told(kind: type, name: str, folders: tuple[Path, ...] = ()) -> SpecError:
    """The error of looking a spec up."""
    with pytest.raises(SpecError) as caught:
        find(kind, name, folders)
    return caught.value


def test_a_shipped_target_is_found_by_its_id():
    assert find(Target, "rpi4-64").core == "Cortex-A72"
    assert set(paths(Target)) == {path.stem for path in shipped(Target).glob("*.toml")}


def test_what_ships_lies_in_the_wheel_or_at_the_top_of_a_checkout(tmp_path, monkeypatch):
    package = tmp_path / "site" / "edgepack"
    monkeypatch.setattr(library, "__file__", str(package / "spec" / "library.py"))
    assert shipped(Target) == tmp_path / "site" / "targets"
    assert paths(Target) == {}
    (package / "recipes").mkdir(parents=True)
    assert shipped(Recipe) == package / "recipes"
    (package / "shipped" / "targets").mkdir(parents=True)
    assert shipped(Target) == package / "shipped" / "targets"


def test_a_users_own_come_before_the_shipped_and_named_folders_before_all(tmp_path):
    assert user_folders(Target) == []
    put(tmp_path / "config" / "edgepack" / "targets", "rpi4-64", BASE.format("config"))
    assert find(Target, "rpi4-64").name == "config"
    put(Path("targets"), "rpi4-64", BASE.format("project"))
    assert find(Target, "rpi4-64").name == "project"
    put(tmp_path / "named", "rpi4-64", BASE.format("named"))
    assert find(Target, "rpi4-64", [tmp_path / "named"]).name == "named"
    assert len(user_folders(Target)) == 2


@pytest.mark.parametrize("name", ["./mine.toml", "mine.toml"])
def test_a_path_is_a_path(name):
    put(Path(), "mine", BASE.format("mine"))
    target = find(Target, name)
    assert (target.id, target.name) == ("mine", "mine")


def test_an_unknown_id_gets_the_nearest_one():
    error = told(Target, "rpi4_64")
    assert error.message == "no target has the id 'rpi4_64'"
    assert error.hint == "did you mean 'rpi4-64'?"
    assert told(Device, "qqqq").hint == "see `edgepack devices list`"
    assert told(Dataset, "qqqq").hint == "see `edgepack calibration list`"


def test_a_missing_path_and_a_folder():
    assert told(Target, "none.toml").message == "none.toml: no such file"
    Path("folder").mkdir()
    assert "Is a directory" in told(Target, "./folder").message


@pytest.mark.parametrize(
    ("kind", "key", "hint"),
    [
        (Target, "id", "the file's name is its id"),
        (Dataset, "id", "the file's name is its id"),
        (Dataset, "folder", "paths are relative to the file itself"),
        (Recipe, "folder", "paths are relative to the file itself"),
    ],
)
def test_keys_that_the_files_place_says(kind, key, hint):
    path = put(Path("x"), "a", f'{key} = "b"\nsource = "npz"\n')
    error = told(kind, str(path))
    assert (error.message, error.hint) == (f"{path}: unknown key '{key}'", hint)


def test_folder_is_no_key_of_other_kinds_either():
    path = put(Path("x"), "a", BASE.format("a") + 'folder = "b"\n')
    assert told(Target, str(path)).message == f"{path}: unknown key 'folder'"


def test_a_data_description_knows_its_folder_absolutely():
    path = put(Path("data"), "cifar", 'source = "npz"\npath = "c.npz"\n')
    dataset = load(Dataset, path)
    assert (dataset.id, dataset.folder) == ("cifar", str(Path("data").resolve()))


def test_extending_overrides_key_by_key_and_keeps_the_rest():
    put(
        Path("targets"),
        "base",
        BASE.format("base")
        + "cores = 4\n[measure]\nruns = 7\nthreads = 2\n[sources]\ncores = 'https://a.example'\n",
    )
    put(
        Path("targets"),
        "child",
        'extends = "base"\nname = "child"\nclock_mhz = 5\n[measure]\nthreads = 3\n'
        "[limits]\nmax_latency_ms = 1\n[sources]\nclock_mhz = 'https://b.example'\n",
    )
    child = find(Target, "child")
    assert (child.id, child.name, child.cores, child.clock_mhz) == ("child", "child", 4, 5)
    assert (child.measure.runs, child.measure.threads) == (7, 3)
    assert child.limits.max_latency_ms == 1
    assert child.sources == {"cores": "https://a.example", "clock_mhz": "https://b.example"}
    assert find(Target, "base").measure.threads == 2


def test_a_value_that_is_no_table_replaces_one_and_is_told():
    put(Path("targets"), "base", BASE.format("base") + "[memory]\nram_kib = 1\n")
    path = put(Path("targets"), "child", 'extends = "base"\nmemory = 3\n')
    assert told(Target, "child").message.startswith(f"{path.resolve()}: memory: should be an obj")


def test_a_shipped_target_may_be_extended_even_under_its_own_name():
    path = put(Path("targets"), "rpi4-64", 'extends = "rpi4-64"\nname = "Ours"\n')
    ours = load(Target, path)
    assert (ours.name, ours.core) == ("Ours", "Cortex-A72")


def test_a_neighbour_is_extended_before_one_of_the_same_name_elsewhere(tmp_path):
    put(tmp_path / "named", "base", BASE.format("named"))
    put(tmp_path / "there", "base", BASE.format("there"))
    path = put(tmp_path / "there", "child", 'extends = "base"\n')
    assert load(Target, path, [tmp_path / "named"]).name == "there"


def test_extending_goes_one_level_only():
    put(Path("targets"), "a", BASE.format("a"))
    put(Path("targets"), "b", 'extends = "a"\n')
    put(Path("targets"), "c", 'extends = "b"\n')
    error = told(Target, "c")
    assert error.message.endswith("c.toml: extends 'b', which itself extends 'a'")
    assert error.hint == "extend that one instead: one level only"


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        ('"rpi4_64"', "extends 'rpi4_64', which is not a target", "did you mean 'rpi4-64'?"),
        ('"qqqqqqq"', "extends 'qqqqqqq', which is not a target", "see `edgepack targets list`"),
        ('["a"]', "extends: should be the id of one target, found ['a']", ""),
        ('"alone"', "extends 'alone', which is not a target", None),
    ],
)
def test_extending_what_is_not_there(value, message, hint):
    path = put(Path("x"), "alone", f'extends = {value}\nname = "x"\n')
    error = told(Target, str(path))
    assert error.message == f"{path}: {message}"
    assert hint is None or error.hint == hint


@pytest.mark.parametrize(
    ("extra", "message"),
    [("coers = 1\n", "unknown key 'coers'"), ('id = "x"\n', "unknown key 'id'")],
)
def test_what_is_wrong_in_the_base_is_told_of_the_base(extra, message):
    base = put(Path("x"), "base", BASE.format("base") + extra)
    path = put(Path("x"), "child", 'extends = "base"\n')
    assert told(Target, str(path)).message == f"{base}: {message}"


def test_a_misspelt_extends_is_known_for_what_it_is():
    path = put(Path("x"), "a", BASE.format("a") + 'extend = "rpi4-64"\n')
    error = told(Target, str(path))
    assert error.message == f"{path}: unknown key 'extend'"
    assert error.hint == "did you mean 'extends'?"


def test_only_targets_extend():
    path = put(Path("x"), "a", 'extends = "int8"\nscheme = "int8"\n')
    assert told(Recipe, str(path)).message == f"{path}: unknown key 'extends'"


@pytest.mark.parametrize(
    ("scheme", "needs"),
    [("float32", False), ("float16", False), ("dynamic", False), ("int8", True), ("int4", True)],
)
def test_a_recipe_knows_whether_it_needs_calibration(scheme, needs):
    recipe = load(Recipe, put(Path("recipes"), "r", f'scheme = "{scheme}"\n'))
    assert recipe.needs_calibration is needs
    assert not recipe.needs_train
    assert not recipe.needs_labels


@pytest.mark.parametrize(
    ("inside", "otherwise", "needs"),
    [
        ("float32", "int8", True),
        ("int16x8", "float32", True),
        ("float16", "dynamic", False),
    ],
)
def test_a_mixed_recipe_needs_calibration_when_any_part_does(inside, otherwise, needs):
    text = f'scheme = "mixed"\notherwise = "{otherwise}"\n'
    text += f'[[mixed]]\nlayers = "conv.*"\nscheme = "{inside}"\n'
    assert load(Recipe, put(Path("recipes"), "m", text)).needs_calibration is needs
