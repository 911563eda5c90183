import json
import zipfile

import h5py
import numpy as np
import pytest

from edgepack.errors import ModelError
from edgepack.model import h5_probe
from edgepack.model.h5_probe import main, probe


@pytest.fixture
def whole(tmp_path):
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = "{}"
        file["a/b"] = np.arange(1000)
    return path


@pytest.fixture
def packed(tmp_path, whole):
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", whole.read_bytes())
    return path


def test_whole_files_pass(whole, packed):
    probe(whole, "h5")
    probe(packed, "keras")
    assert main([str(whole), "h5"]) == main([str(packed), "keras"]) == 0


def test_refusals_come_back_from_the_child(tmp_path):
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file["x"] = h5py.SoftLink("/y")
    with pytest.raises(ModelError, match="links to somewhere else") as error:
        probe(path, "h5")
    assert error.value.hint


def test_what_the_library_trips_over_is_one_line(whole, monkeypatch, capsys):
    def trip(file):
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(h5_probe, "read_all", trip)
    assert main([str(whole), "h5"]) == 1
    assert json.loads(capsys.readouterr().out)[0] == f"{whole}: damaged: first line"
    (whole.parent / "bad.h5").write_bytes(b"no")
    assert main([str(whole.parent / "bad.h5"), "h5"]) == 1
    assert "not an HDF5" in capsys.readouterr().out


def test_a_child_that_hangs_or_crashes(whole, monkeypatch):
    monkeypatch.setattr(h5_probe, "DEADLINE_S", 0.0)
    with pytest.raises(ModelError, match="does not end"):
        probe(whole, "h5")
    monkeypatch.setattr(h5_probe, "DEADLINE_S", 20)
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(ModelError, match="reading it fails"):
        probe(whole, "h5")


def test_damaged_links_are_one_line(whole):
    content = bytearray(whole.read_bytes())
    at = content.index(b"TREE")
    content[at : at + 200] = bytes(200)
    whole.write_bytes(bytes(content))
    with pytest.raises(ModelError) as error:
        probe(whole, "h5")
    assert "\n" not in error.value.message
    assert error.value.hint
