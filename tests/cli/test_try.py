"""``try``: one real file through a pack's own preprocessing, here and on a device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgepack.cli.app import run
from tests.command import strict
from tests.tiny import Tiny

pytestmark = pytest.mark.tf
LABELS = ("ant", "bee", "cat", "dog")


@pytest.fixture(scope="module")
def packed(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An int8 pack of the tiny model, judged by pictures in folders."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(3)
    for label in LABELS:
        (folder / "set" / label).mkdir(parents=True)
        for number in range(2):
            pixels = rng.integers(0, 256, (10, 10), np.uint8)
            Image.fromarray(pixels).save(folder / "set" / label / f"{number}.png")
    (folder / "photos.toml").write_text(
        'source = "image-folder"\npath = "set"\nmetric = "top1"\n'
        '[preprocess]\nsize = [8, 8]\nchannels = "gray"\nscale = 0.00392156862745098\n'
    )
    out = folder / "out"
    argv = ["pack", str(tiny.model), "--target", "generic-linux-x86_64", "--recipe", "int8"]
    argv += ["--calibration", str(tiny.calibration), "--evaluation", str(folder / "photos.toml")]
    assert run([*argv, "-o", str(out)]) == 0
    return folder


def tried(capfd: pytest.CaptureFixture[str], *argv: object, code: int = 0) -> dict:
    command = ["try", *map(str, argv), "--device", "this-machine", "--json"]
    capfd.readouterr()
    assert run(command) == code
    return strict(capfd.readouterr().out)


def test_a_photo_is_answered_alike_on_host_and_device(packed, capfd):
    photo = packed / "set/bee/0.png"
    found = tried(capfd, packed / "out", "--input", photo, "--top", 3)
    host, there = found["answers"]["host"], found["answers"]["device"]
    assert host == there
    assert len(host) == 3
    assert {answer["label"] for answer in host} <= set(LABELS)
    assert host[0]["label"] == LABELS[host[0]["index"]]
    assert host[0]["score"] >= host[1]["score"] >= host[2]["score"]
    assert found["latency"]["runs"] == 1
    assert found["latency"]["us"] > 0
    assert found["agreement"]["ok"] is True
    assert found["agreement"]["max_abs"] == 0
    assert found["agreement"]["tolerance"] > 0
    assert found["runtime"]["runner"] == "litert-python"
    assert (found["recipe"], found["device"]["emulated"]) == ("int8", False)
    folder = next((packed / "out").glob("packs/*/*/*"))
    for source in (folder, next(folder.glob("*.tflite"))):
        same = tried(capfd, source, "--input", photo, "--top", 3)
        assert same["answers"]["host"] == host
    (packed / "gray.npy").write_bytes(b"")
    np.save(packed / "gray.npy", np.asarray(Image.open(photo).resize((8, 8), 2))[:, :, None])
    same = tried(capfd, folder, "--input", packed / "gray.npy", "--top", 3)
    assert same["answers"]["host"] == host


def test_people_see_both_side_by_side(packed, capfd):
    argv = ["try", str(packed / "out"), "--input", str(packed / "set/ant/0.png")]
    assert run([*argv, "--device", "this-machine"]) == 0
    told = capfd.readouterr().out
    assert "this host" in told
    assert "this-machine" in told
    assert "one run by litert-python" in told
    assert "they agree" in told


def test_a_bare_file_takes_what_has_its_shape(packed, tmp_path, capfd):
    content = next((packed / "out").glob("packs/*/*/*/*.tflite")).read_bytes()
    (tmp_path / "bare.tflite").write_bytes(content)
    np.save(tmp_path / "x.npy", np.full((8, 8, 1), 0.5, np.float32))
    np.save(tmp_path / "stored.npy", np.zeros((1, 8, 8, 1), np.int8))
    for name in ("x.npy", "stored.npy"):
        found = tried(capfd, tmp_path / "bare.tflite", "--input", tmp_path / name)
        assert found["agreement"]["ok"] is True
        assert found["answers"]["host"][0]["label"] is None
    argv = (tmp_path / "bare.tflite", "--evaluation", packed / "photos.toml")
    found = tried(capfd, *argv, "--input", packed / "set/ant/0.png")
    assert found["answers"]["host"][0]["label"] in LABELS


@pytest.mark.parametrize(
    ("what", "code", "words"),
    [
        ("photo", 7, "is 10×10×1, the model takes 8×8×1"),
        ("sound", 7, "no such file"),
        ("long", 7, "is 9, the model takes 8×8×1"),
    ],
)
def test_what_does_not_suit_a_bare_file(what, code, words, packed, tmp_path, capfd):
    content = next((packed / "out").glob("packs/*/*/*/*.tflite")).read_bytes()
    (tmp_path / "bare.tflite").write_bytes(content)
    np.save(tmp_path / "long.npy", np.zeros(9, np.float32))
    given = {"photo": packed / "set/ant/0.png", "long": tmp_path / "long.npy"}
    argv = ["try", str(tmp_path / "bare.tflite"), "--device", "this-machine", "--input"]
    assert run([*argv, str(given.get(what, tmp_path / "gone.wav"))]) == code
    captured = capfd.readouterr()
    assert captured.out == ""
    assert words in captured.err


def test_a_device_that_is_lost_and_a_pack_without_data(packed, tiny, tmp_path, capfd):
    (tmp_path / "lost.toml").write_text(
        'link = "ssh"\ntarget = "generic-linux-x86_64"\naddress = "nobody@127.0.0.1:9"\n'
    )
    photo = str(packed / "set/ant/0.png")
    argv = ["try", str(packed / "out"), "--input", photo, "--device"]
    assert run([*argv, str(tmp_path / "lost.toml")]) == 5
    out = tmp_path / "plain"
    pack = ["pack", str(tiny.model), "--target", "generic-linux-x86_64", "-o", str(out)]
    assert run([*pack, "--recipe", "float32", "--recipe", "float16"]) == 0
    capfd.readouterr()
    argv = ["--input", photo, "--device", "this-machine"]
    assert run(["try", str(out), *argv]) == 2
    assert "holds 2 packs, name one" in capfd.readouterr().err
    folder = next(out.glob("packs/*/*/float32"))
    assert run(["try", str(folder), *argv]) == 7
    assert "does not say how files become inputs" in capfd.readouterr().err
