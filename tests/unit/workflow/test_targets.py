"""Which spec of a target is meant, where several have its id."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgepack.errors import SpecError
from edgepack.spec.library import find
from edgepack.spec.target import Limits, Target
from edgepack.workflow.store import find_target, write_target

ID = "generic-linux-x86_64"


def test_what_was_packed_for_comes_before_what_is_shipped(tmp_path):
    assert find_target(tmp_path, ID) == find(Target, ID)
    strict = replace(find(Target, ID), limits=Limits(max_latency_ms=0.5))
    write_target(tmp_path, strict)
    assert find_target(tmp_path, ID) == strict


def test_a_users_own_spec_comes_first(tmp_path, monkeypatch):
    write_target(tmp_path, find(Target, ID))
    text = f'extends = "{ID}"\n[limits]\nmax_latency_ms = 2.0\n'
    for folder in (tmp_path / "given", tmp_path / "targets-of-the-project" / "targets"):
        folder.mkdir(parents=True)
        (folder / f"{ID}.toml").write_text(text)
    assert find_target(tmp_path, ID, [tmp_path / "given"]).limits.max_latency_ms == 2.0
    assert find_target(tmp_path, ID).limits.max_latency_ms is None
    monkeypatch.chdir(tmp_path / "targets-of-the-project")
    assert find_target(tmp_path, ID).limits.max_latency_ms == 2.0


def test_a_target_that_is_nowhere(tmp_path: Path):
    with pytest.raises(SpecError, match="no target has the id 'nowhere'"):
        find_target(tmp_path, "nowhere")
