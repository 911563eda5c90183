"""``edgepack inspect``: one object under ``--json``, a table for people, codes by the fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepack.cli.app import run
from tests.command import strict, validate
from tests.unit.graph.flatbuffers import convolution


@pytest.fixture
def model(tmp_path) -> Path:
    path = tmp_path / "one-convolution.tflite"
    path.write_bytes(convolution())
    return path


def board(folder: Path, flash_kib: float) -> str:
    path = folder / "board.toml"
    path.write_text(
        'name = "Board"\nkind = "mcu"\narch = "armv7e-m"\nruntimes = ["tflm"]\n'
        f"[memory]\nflash_kib = {flash_kib}\nram_kib = 256\n"
    )
    return str(path)


def test_json_is_one_valid_object(model, capfd):
    assert run(["inspect", str(model), "--json"]) == 0
    facts = strict(capfd.readouterr().out)
    validate(facts)
    assert facts["fit"] is None
    assert [row["name"] for row in facts["operators"]] == ["CONV_2D"]
    assert sum(row["macs"] for row in facts["operators"]) == facts["cost"]["macs"] > 0


def test_fit_decides_the_code_and_json_is_printed_all_the_same(model, tmp_path, capfd):
    assert run(["inspect", str(model), "--json", "--target", board(tmp_path, 1024)]) == 0
    assert strict(capfd.readouterr().out)["fit"] == {"ok": True, "reasons": []}
    assert run(["inspect", str(model), "--json", "--target", board(tmp_path, 2)]) == 1
    facts = strict(capfd.readouterr().out)
    validate(facts)
    assert not facts["fit"]["ok"]
    assert any("flash" in reason for reason in facts["fit"]["reasons"])


def test_people_get_a_table(model, tmp_path, capfd):
    assert run(["inspect", str(model), "--target", board(tmp_path, 2)]) == 1
    text = capfd.readouterr().out
    for words in ("CONV_2D", "MACs", "arena", "fits: no"):
        assert words in text


def test_an_unknown_target_is_found_out_before_the_file(tmp_path, capfd):
    assert run(["inspect", str(tmp_path / "none.tflite"), "--target", "rpi4-46"]) == 2
    assert "did you mean" in capfd.readouterr().err
