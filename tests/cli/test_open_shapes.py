"""Sizes that a model leaves open are given by --shape, as the error's hint says."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from edgepack.cli.app import run
from tests.command import records
from tests.tiny import write_set

pytestmark = pytest.mark.tf


def test_the_hint_of_an_open_shape_works(tmp_path, capfd):
    image = keras.Input((None, None, 1), name="image")
    x = keras.layers.Conv2D(4, 3, activation="relu")(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    keras.Model(image, keras.layers.Dense(2)(x)).save(tmp_path / "open.keras")
    data = write_set(
        tmp_path, "calibration", x=np.random.default_rng(0).random((8, 6, 6, 1), np.float32)
    )
    argv = ["pack", str(tmp_path / "open.keras"), "--target", "generic-linux-x86_64"]
    argv += ["--recipe", "int8", "--calibration", str(data), "-o", str(tmp_path / "out"), "--json"]
    assert run(argv) == 3
    assert "--shape image=" in capfd.readouterr().err
    assert run([*argv, "--shape", "image=1,6,6,1"]) == 0
    (pack,) = records(capfd.readouterr().out)
    assert pack["signature"]["inputs"][0]["shape"] == [1, 6, 6, 1]
    assert run([*argv, "--shape", "image=6,six"]) == 2
    assert "not like" in capfd.readouterr().err
    assert run([*argv, "--shape", "image=1,600000,600000,1"]) == 7
    assert "the model's 'image' takes 600000" in capfd.readouterr().err
    plain = ["pack", str(tmp_path / "open.keras"), "--target", "generic-linux-x86_64"]
    plain += ["--recipe", "float32", "-o", str(tmp_path / "out")]
    assert run([*plain, "--shape", "image=1,600000,600000,1"]) == 3
    told = capfd.readouterr().err
    assert "not enough memory" in told
    assert "hint: a smaller --shape" in told


def test_two_specs_of_one_name_do_not_overwrite_each_other(tmp_path, tiny, capfd):
    for folder, ram in (("a", 100), ("b", 200)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.toml").write_text(
            f'extends = "generic-linux-x86_64"\n[memory]\nram_kib = {ram}\n'
        )
    argv = ["pack", str(tiny.model), "--recipe", "float32", "-o", str(tmp_path / "out")]
    for folder in ("a", "b"):
        argv += ["--target", str(tmp_path / folder / "mine.toml")]
    assert run(argv) == 2
    assert "two targets have the id 'mine'" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()
