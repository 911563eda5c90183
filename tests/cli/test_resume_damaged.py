"""--resume makes again what was damaged since."""

from __future__ import annotations

import pytest

from edgepack.cli.app import run
from tests.command import records

pytestmark = pytest.mark.tf


@pytest.mark.parametrize("spoiled", ["pack.json", "tiny-float32.tflite"])
def test_what_was_damaged_is_made_again(spoiled, tiny, tmp_path, capfd):
    argv = ["pack", str(tiny.model), "--target", "generic-linux-x86_64", "--recipe", "float32"]
    argv += ["-o", str(tmp_path), "--json", "--resume"]
    assert run(argv) == 0
    (path,) = tmp_path.rglob(spoiled)
    whole = len(path.read_bytes())
    path.write_bytes(path.read_bytes()[:20])
    capfd.readouterr()
    assert run(argv) == 0
    (pack,) = records(capfd.readouterr().out)
    assert pack["status"] == "ok"
    assert len(path.read_bytes()) > whole // 2
