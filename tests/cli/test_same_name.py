"""Another file of the same name: what was made of the earlier one is not passed off as its own."""

from __future__ import annotations

import pytest

from edgepack.cli.app import run
from tests.command import records, strict

pytestmark = pytest.mark.tf


@pytest.fixture
def two(tiny, tmp_path):
    """Two different models in files of one name."""
    import keras

    (tmp_path / "new").mkdir()
    model = keras.models.load_model(tiny.model)
    model.get_layer("label").bias.assign_add([1.0, 0.0, 0.0, 0.0])
    model.save(tmp_path / "new" / "tiny.keras")
    return tiny.model, tmp_path / "new" / "tiny.keras"


def test_rows_of_an_earlier_file_of_that_name_are_pointed_at(two, tmp_path, capfd, caplog):
    out = tmp_path / "out"
    argv = ["--target", "generic-linux-x86_64", "-o", str(out), "--json"]
    assert run(["pack", str(two[0]), *argv, "--recipe", "float32", "--recipe", "float16"]) == 0
    old = records(capfd.readouterr().out)
    assert run(["report", str(out), "--format", "json"]) == 0
    assert strict(capfd.readouterr().out)["cautions"] == []
    assert run(["pack", str(two[1]), *argv, "--recipe", "float32"]) == 0
    (new,) = records(capfd.readouterr().out)
    assert new["source_sha256"] != old[0]["source_sha256"]
    told = f"{old[0]['source_sha256'][:8]}: float16 for generic-linux-x86_64"
    assert told in caplog.text
    assert run(["report", str(out), "--format", "json"]) == 0
    (caution,) = strict(capfd.readouterr().out)["cautions"]
    assert told in caution
    assert run(["report", str(out)]) == 0
    assert told in (out / "report.html").read_text()
    assert run(["report", str(out), "--format", "md"]) == 0
    assert "2 different files" in capfd.readouterr().out
