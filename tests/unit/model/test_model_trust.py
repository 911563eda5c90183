import io
import json
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from edgepack.errors import ModelError
from edgepack.model.archive import keras_config, opened_h5, with_config
from edgepack.model.load import digest_of, load, safe_id
from edgepack.model.trust import screen

WHERE = Path("m.keras")


def layer(class_name="Dense", module="keras.layers", **config):
    return {"class_name": class_name, "module": module, "config": {"name": "it", **config}}


def model(*layers):
    return layer("Functional", "keras.src.models.functional", layers=list(layers))


PLAIN = model(
    layer(activation={"class_name": "function", "module": "builtins", "config": "relu"}),
    layer("Bidirectional", layer=layer("LSTM")),
    {"class_name": "Conv2D", "config": {"kernel_initializer": {"class_name": "Zeros"}}},
)


def test_plain_layers_pass():
    screen(PLAIN, WHERE)


HIDDEN = layer("Lambda", function={"class_name": "__lambda__", "config": {}})


@pytest.mark.parametrize(
    ("config", "said", "hint"),
    [
        (model(HIDDEN), "'it' is a Lambda", "--allow-lambda"),
        (model(model(layer(), model(HIDDEN))), "is a Lambda", "--allow-lambda"),
        (model(layer("TimeDistributed", layer=HIDDEN)), "is a Lambda", "--allow-lambda"),
        (layer(activation={"class_name": "__lambda__"}), "is a Lambda", "--allow-lambda"),
        ({**layer(), "registered_name": "keras>Lambda"}, "is a Lambda", "--allow-lambda"),
        (layer("Evil", "os"), "custom object 'Evil' from os", "--custom-objects"),
        (layer("kerasEvil", "kerasevil.layers"), "custom object", "--custom-objects"),
        (
            layer(f={"class_name": "function", "module": "os", "config": "system"}),
            "custom object 'system' from os",
            "--custom-objects",
        ),
        (
            layer(f={"class_name": "function", "module": "keras.utils", "config": "get_file"}),
            "no part of a model",
            "harm",
        ),
        (layer("load_model", "keras.saving"), "no part of a model", "harm"),
        (layer(module=3), "no part of a model", "harm"),
        (layer("TFSMLayer", filepath="/tmp/x"), "from elsewhere", "SavedModel"),
        (layer("TorchModuleWrapper"), "from elsewhere", ""),
        (layer("StringLookup", vocabulary="/etc/passwd"), "vocabulary from a file", "inside"),
        ({"class_name": 3}, "without a class name", "damaged"),
    ],
)
def test_what_could_run_code_is_refused(config, said, hint):
    with pytest.raises(ModelError, match=said) as error:
        screen(config, WHERE)
    assert hint in error.value.hint


def test_flags_allow_what_they_name():
    screen(model(HIDDEN), WHERE, allow_lambda=True)
    screen(layer("Mine", "my_layers"), WHERE, code=True)
    with pytest.raises(ModelError):
        screen(layer("load_model", "keras.saving"), WHERE, allow_lambda=True, code=True)


def test_endless_nesting_is_refused():
    config = []
    for _ in range(300):
        config = [config]
    with pytest.raises(ModelError, match="nested deeper"):
        screen(config, WHERE)


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name.replace("__", "."), content)
    return path


def weights(**datasets):
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, value in datasets.items():
            file[name] = value
    return content.getvalue()


def test_a_whole_archive(tmp_path):
    path = archive(
        tmp_path / "m.keras", config__json=json.dumps(PLAIN), model__weights__h5=weights(a=[1.0])
    )
    assert keras_config(path) == (PLAIN, None)


def test_an_archive_with_another_configuration(tmp_path):
    old = archive(
        tmp_path / "m.keras",
        config__json=json.dumps(PLAIN),
        metadata__json='{"keras_version": "2.15.0"}',
        model__weights__h5=weights(a=[1.0]),
    )
    with_config(old, {"class_name": "Other"}, tmp_path / "new.keras")
    assert keras_config(tmp_path / "new.keras") == ({"class_name": "Other"}, "2.15.0")
    with zipfile.ZipFile(old) as a, zipfile.ZipFile(tmp_path / "new.keras") as b:
        assert a.namelist() == b.namelist()
        assert a.read("model.weights.h5") == b.read("model.weights.h5")


def test_members_outside_the_archive(tmp_path):
    for name in ("../evil.py", "/etc/evil", "a/../../b", "..\\evil", "C:/evil"):
        with zipfile.ZipFile(tmp_path / "m.keras", "w") as file:
            file.writestr("config.json", "{}")
            file.writestr(name, "x")
        with pytest.raises(ModelError, match="outside the archive"):
            load(tmp_path / "m.keras")


def test_links_in_the_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as file:
        link = zipfile.ZipInfo("assets")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc")
    with pytest.raises(ModelError, match="is a link"):
        keras_config(tmp_path / "m.keras")


def test_archive_bombs(tmp_path):
    zeros = bytes(65 << 20)
    path = archive(tmp_path / "m.keras", config__json=zeros)
    with pytest.raises(ModelError, match="unpacks to 68157440 bytes"):
        keras_config(path)
    path = archive(tmp_path / "m.keras", config__json="{}", model__weights__h5=zeros)
    with pytest.raises(ModelError, match="unpacks to"):
        keras_config(path)


def claims(content: bytes, size: int) -> bytes:
    """The archive with the size of its first member raised in the directory."""
    at = content.index(b"PK\x01\x02")
    return content[: at + 24] + struct.pack("<I", size) + content[at + 28 :]


def test_archive_larger_than_any_model(tmp_path, monkeypatch):
    monkeypatch.setattr("edgepack.model.archive.LARGEST_TOTAL", 10)
    path = archive(tmp_path / "m.keras", config__json="{}" * 20)
    with pytest.raises(ModelError, match="more than 10"):
        keras_config(path)


def test_archive_that_lies_about_sizes(tmp_path):
    path = archive(tmp_path / "m.keras", config__json="{}")
    path.write_bytes(claims(path.read_bytes(), 1))
    with pytest.raises(ModelError):
        keras_config(path)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"other": "x"}, "has no config.json"),
        ({"config__json": "{"}, "not JSON"),
        ({"config__json": "[" * 100_000}, "not JSON"),
        ({"config__json": "[]"}, "not a JSON object"),
        ({"config__json": "{}", "model__weights__h5": "no"}, "weights are damaged"),
    ],
)
def test_damaged_archives(tmp_path, members, said):
    path = archive(tmp_path / "m.keras", **members)
    with pytest.raises(ModelError, match=said):
        keras_config(path)


def test_a_truncated_archive(tmp_path):
    path = archive(tmp_path / "m.keras", config__json=json.dumps(PLAIN))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ModelError, match=r"damaged \.keras"):
        keras_config(path)


def h5(path, write):
    with h5py.File(path, "w") as file:
        write(file)
    return path


def external(file):
    file["x"] = h5py.ExternalLink("/etc/other.h5", "/x")


def soft(file):
    file["x"] = h5py.SoftLink("/y")


def virtual(file):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "x", (4,))
    file.create_virtual_dataset("v", layout)


def outside(file):
    file.create_dataset("e", (4,), "u1", external=[("/etc/passwd", 0, 4)])


def hollow(file):
    file.create_dataset("big", (1 << 33,), "f4", chunks=(1 << 20,))


def ring(file):
    file.create_group("a")["again"] = file


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (external, "links to somewhere else"),
        (soft, "links to somewhere else"),
        (virtual, "from another file"),
        (outside, "from another file"),
        (hollow, "claims 34359738368 bytes but holds"),
        (ring, "contains itself"),
    ],
)
def test_h5_that_points_elsewhere(tmp_path, write, said):
    path = h5(tmp_path / "m.h5", write)
    with pytest.raises(ModelError, match=said):
        load(path)
    whole = archive(tmp_path / "m.keras", config__json="{}", model__weights__h5=path.read_bytes())
    with pytest.raises(ModelError, match=said):
        load(whole)


def test_h5_groups_are_walked(tmp_path):
    def nested(file):
        file["a/b/c"] = np.ones(3)
        file["type"] = np.dtype("f4")

    with opened_h5(h5(tmp_path / "m.h5", nested)) as file:
        assert list(file) == ["a", "type"]


def config_of(text):
    def write(file):
        file.attrs["model_config"] = text

    return write


def only_weights(file):
    file.create_group("model_weights")


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (config_of("{"), "not JSON"),
        (config_of('{"class_name": "Sequential"}'), "has no settings"),
        (config_of('{"class_name": "Sequential", "config": [3]}'), "damaged"),
        (config_of('{"class_name": "Model", "config": {}}'), "subclassed"),
        (only_weights, "weights without a model"),
        (lambda file: None, "holds no Keras model"),
    ],
)
def test_h5_that_is_no_model(tmp_path, write, said):
    path = h5(tmp_path / "m.h5", write)
    with pytest.raises(ModelError, match=said):
        load(path)


def test_paths_that_hold_no_model(tmp_path):
    (tmp_path / "empty.keras").write_bytes(b"")
    (tmp_path / "text.keras").write_text("hello, this is text")
    (tmp_path / "notes.txt").write_text("hello, this is text")
    (tmp_path / "cut.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(20))
    (tmp_path / "cut.tflite").write_bytes(b"\x00\x00\x00\x00TFL3")
    (tmp_path / "folder").mkdir()
    for name, said in (
        ("absent.keras", "no such file"),
        ("empty.keras", "is empty"),
        ("text.keras", "not that of a .keras"),
        ("notes.txt", "not a model"),
        ("cut.h5", "damaged or not an HDF5"),
        ("cut.tflite", "cut.tflite"),
        ("folder", "without saved_model.pb"),
    ):
        with pytest.raises(ModelError, match=said) as error:
            load(tmp_path / name)
        assert "\n" not in error.value.message


def test_names_and_digests(tmp_path):
    assert safe_id(Path("a/My model (1).keras")) == "My-model-1"
    assert safe_id(Path("###.h5")) == "model"
    folder = tmp_path / "net.v1"
    folder.mkdir()
    assert safe_id(folder) == "net.v1"
    (folder / "b").write_text("1")
    before = digest_of(folder)
    (folder / "b").rename(folder / "c")
    assert digest_of(folder) != before
    assert len(digest_of(folder / "c")) == 64
    with pytest.raises(ModelError, match="cannot be read"):
        digest_of(tmp_path / "absent")
