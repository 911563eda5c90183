"""Each device once, and every target known before any work."""

from __future__ import annotations

import pytest

from edgepack.errors import SpecError
from edgepack.workflow.measure import measure_all, request
from tests.unit.graph.flatbuffers import convolution


def test_a_device_by_two_paths_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = 'link = "local"\ntarget = "generic-linux-x86_64"\n'
    (tmp_path / "here.toml").write_text(text)
    names = ["here.toml", "./here.toml", str(tmp_path / "here.toml")]
    assert len(request(tmp_path, devices=names).devices) == 1
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "here.toml").write_text(text.replace("x86_64", "aarch64"))
    with pytest.raises(SpecError, match="two devices have the id 'here'"):
        request(tmp_path, devices=["here.toml", "b/here.toml"])


def test_a_target_that_nobody_knows_is_told_before_any_work(tmp_path):
    model = tmp_path / "m.tflite"
    model.write_bytes(convolution())
    (tmp_path / "lost.toml").write_text('link = "local"\ntarget = "nopee"\n')
    asked = request(model, devices=["this-machine", str(tmp_path / "lost.toml")])
    with pytest.raises(SpecError, match="no target has the id 'nopee'"):
        next(measure_all(asked))
