"""``targets|recipes|devices|calibration list|show|check``."""

from __future__ import annotations

import pytest

from edgepack.cli.app import run
from tests.command import strict

BOARD = 'name = "Board"\nkind = "linux"\narch = "x86_64"\nruntimes = ["litert-2.3"]\n'
KINDS = ("targets", "recipes", "devices", "calibration")


@pytest.mark.parametrize("kind", KINDS)
def test_list_show_check_agree(kind, capsys):
    assert run([kind, "list", "--json"]) == 0
    rows = strict(capsys.readouterr().out)
    assert rows
    first = rows[0]["id"]
    assert run([kind, "list"]) == 0
    assert first in capsys.readouterr().out
    assert run([kind, "show", first, "--json"]) == 0
    assert strict(capsys.readouterr().out)["id"] == first
    assert run([kind, "show", first]) == 0
    assert f"id = {first}" in capsys.readouterr().out
    assert run([kind, "check", "--json"]) == 0
    checked = strict(capsys.readouterr().out)
    assert len(checked) == len(rows)
    assert all(row["ok"] for row in checked)


def test_one_wrong_file_does_not_hide_the_others(tmp_path, capsys):
    (tmp_path / "bad.toml").write_text("name = 3\n")
    assert run(["targets", "list", "--json", "--targets", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert "rpi4-64" in {row["id"] for row in strict(captured.out)}
    assert str(tmp_path / "bad.toml") in captured.err


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("devices", 'link = "local"\ntarget = "rpi4-46"\n', "did you mean 'rpi4-64'"),
        ("targets", BOARD + 'default_recipe = "int9"\n', "no recipe has the id 'int9'"),
        ("targets", BOARD.replace("2.3", "9.9"), "litert-9.9"),
    ],
)
def test_check_looks_at_what_a_spec_names(kind, text, words, tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    assert run([kind, "check", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == f"{path}: wrong\n"
    assert words in captured.err
    assert f"error: {path}: " in captured.err


def test_a_devices_target_may_lie_in_a_folder_of_its_own(tmp_path, capsys):
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets/mine.toml").write_text(BOARD)
    (tmp_path / "d.toml").write_text('link = "local"\ntarget = "mine"\n')
    assert run(["devices", "check", str(tmp_path / "d.toml")]) == 2
    argv = ["devices", "check", str(tmp_path / "d.toml"), "--targets", str(tmp_path / "targets")]
    assert run(argv) == 0


def test_an_id_is_a_folders_name(tmp_path, capsys):
    (tmp_path / "...toml").write_text(BOARD)
    assert run(["targets", "check", str(tmp_path / "...toml")]) == 2
    assert "'..' is no id" in capsys.readouterr().err


def test_recipes_tell_what_they_need(capsys):
    assert run(["recipes", "list", "--json"]) == 0
    rows = {row["id"]: row for row in strict(capsys.readouterr().out)}
    for row in rows.values():
        assert {"id", "families", "scheme", "needs_train", "needs_labels"} <= set(row)
    assert rows["int8"]["scheme"] == "int8"
    assert {"float32", "float16", "dynamic", "int8", "int16x8", "int4"} <= set(rows)


def test_show_of_an_unknown_id_suggests_the_nearest(capsys):
    assert run(["recipes", "show", "int9"]) == 2
    captured = capsys.readouterr()
    assert "did you mean 'int" in captured.err
    assert captured.out == ""


def test_check_names_each_wrong_file_and_goes_on(tmp_path, capsys):
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text('scheme = "int8"\n')
    bad.write_text('scheme = "int8"\ncalibratr = "mse"\n')
    assert run(["recipes", "check", str(bad), str(good)]) == 2
    captured = capsys.readouterr()
    assert "did you mean 'calibrator'" in captured.err
    assert f"{good}: ok" in captured.out
    assert f"{bad}: wrong" in captured.out


def test_a_folder_of_targets_is_searched_first(tmp_path, capsys):
    (tmp_path / "my-board.toml").write_text(
        'name = "Mine"\nkind = "linux"\narch = "aarch64"\nruntimes = ["litert-2.3"]\n'
    )
    assert run(["targets", "show", "my-board", "--targets", str(tmp_path), "--json"]) == 0
    assert strict(capsys.readouterr().out)["name"] == "Mine"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('link = "ssh"\naddress = "pi@board:99999"', "no such port: 99999"),
        ('link = "ssh"\naddress = "pi@"', "not an SSH address"),
        ('link = "adb"\nboard = "abacus"', "no emulated board has the id 'abacus'"),
        ('link = "ssh"', "'address' is missing"),
    ],
)
def test_a_device_that_cannot_be_reached_as_it_says(text, words, tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text(f'target = "rpi4-64"\n{text}\n')
    assert run(["devices", "check", str(path)]) == 2
    assert words in capsys.readouterr().err
