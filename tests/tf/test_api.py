"""The same from Python: typed verbs that raise what the command would report."""

from __future__ import annotations

import subprocess
import sys

import pytest

import edgepack as ep
from edgepack.errors import FitError, ModelError, SpecError

pytestmark = pytest.mark.tf


def test_everything_promised_is_there():
    for name in ep.__all__:
        assert getattr(ep, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = ep.nothing


def test_importing_it_is_light():
    code = "import edgepack, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "tensorflow", "pydantic"} & set(done.stdout.split())


def test_pack_measure_inspect_report(tiny, tmp_path):
    out = tmp_path / "out"
    pack = ep.pack(
        tiny.model,
        target="generic-linux-x86_64",
        recipe="int8",
        calibration=str(tiny.calibration),
        evaluation=str(tiny.evaluation),
        out=out,
    )
    assert isinstance(pack, ep.Pack)
    assert pack.artefact is not None
    found = ep.measure(pack, "this-machine", evaluation=str(tiny.evaluation))
    assert isinstance(found, ep.Measurement)
    assert found.status == "ok"
    assert found.agreement.max_abs == 0
    assert found.quality.device == pytest.approx(pack.quality.host)
    assert ep.inspect(pack.artefact.path).sha256 == pack.artefact.sha256
    report = ep.report(out)
    assert report.sections[0].packs == (pack,)
    assert report.sections[0].measurements == (found,)
    assert callable(ep.measure)
    assert callable(ep.report)


def test_errors_are_raised(tiny, tmp_path):
    with pytest.raises(SpecError, match="calibration"):
        ep.pack(tiny.model, target="generic-linux-x86_64", recipe="int8", out=tmp_path)
    with pytest.raises(FitError, match="float16"):
        ep.pack(tiny.model, target="nucleo-f446re", recipe="float16", out=tmp_path)
    with pytest.raises(ModelError, match=r"nowhere\.tflite"):
        ep.inspect(tmp_path / "nowhere.tflite")
