"""Recipes with steps: shared first steps, interruption, resume, and what is told of each step."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgepack as ep
from edgepack.errors import DataError, ModelError, SpecError
from edgepack.events import Event, listening
from edgepack.export import to_float
from edgepack.model.load import load
from edgepack.records import Pack, to_dict
from edgepack.workflow import ask
from edgepack.workflow.job import Job
from edgepack.workflow.pack import pack_all
from tests.command import validate
from tests.tiny import Tiny, write_set

pytestmark = pytest.mark.tf
SPARSE = """
[[steps]]
name = "sparse"
options = { sparsity = 0.5 }
train = { epochs = 3, batch_size = 16 }
distill = { labels = 0.0 }
"""
FINETUNE = """
[[steps]]
name = "finetune"
train = { epochs = 1, batch_size = 16, learning_rate = 1e-4 }
"""
FIGURES = {
    *("params", "macs", "size_bytes", "gzip_bytes", "arena_bytes"),
    *("latency_host_us", "quality"),
}


class Heard:
    """The names of the steps that were done, and Ctrl-C once at a chosen moment."""

    def __init__(self, name: str = "", done: int = 0) -> None:
        self.names: list[str] = []
        self.starts: dict[str, int] = {}
        self.name, self.done = name, done

    def __call__(self, event: Event) -> None:
        """Listen."""
        if event.kind == "advance":
            self.starts.setdefault(event.name, event.done)
            if self.name == event.name and event.done >= self.done:
                raise KeyboardInterrupt
        if event.kind == "end" and not event.failed:
            self.names.append(event.name)


@pytest.fixture(scope="module")
def train(tiny: Tiny, tmp_path_factory) -> Path:
    """Samples to learn from, that the model labelled."""
    import keras

    folder = tmp_path_factory.mktemp("train")
    x = np.random.default_rng(1).random((64, 8, 8, 1), np.float32)
    model = keras.saving.load_model(tiny.model, compile=False)
    return write_set(folder, "train", x=x, y=model.predict(x, verbose=0).argmax(1))


def job(tiny: Tiny, train: Path, out: Path, *recipes: Path, resume: bool = False) -> Job:
    """The job of packing the tiny model by these recipes."""
    return ask.job(
        tiny.model,
        targets=["generic-linux-x86_64"],
        recipes=[str(recipe) for recipe in recipes],
        train=str(train),
        calibration=str(tiny.calibration),
        evaluation=str(tiny.evaluation),
        out=out,
        resume=resume,
    )


def recipe(folder: Path, name: str, scheme: str, *steps: str) -> Path:
    """A recipe's file."""
    path = folder / f"{name}.toml"
    path.write_text(f'scheme = "{scheme}"\n' + "".join(steps))
    return path


def done(asked: Job, heard: Heard | None = None) -> list[Pack]:
    """The packs of a job, each sound and valid."""
    with listening(heard or Heard()):
        packs = list(pack_all(asked))
    for pack in packs:
        assert pack.error is None, pack.error
        validate(json.loads(json.dumps(to_dict(pack))))
    return packs


def leftovers(folder: Path) -> list[str]:
    """Files that are only there while something is being done."""
    return [p.name for p in folder.rglob("*") if p.name.endswith(".part") or "training" in p.name]


@pytest.fixture(scope="module")
def whole(tiny, train, tmp_path_factory):
    """(folder, packs, what was heard) of three recipes that share their first step."""
    folder = tmp_path_factory.mktemp("whole")
    recipes = [
        recipe(folder, "short", "int8", SPARSE),
        recipe(folder, "wide", "int16x8", SPARSE),
        recipe(folder, "long", "int8", SPARSE, FINETUNE),
    ]
    heard = Heard()
    return folder, done(job(tiny, train, folder / "out", *recipes), heard), heard


def test_steps_that_recipes_share_are_run_once(whole):
    folder, packs, heard = whole
    ran = [name for name in heard.names if name.rpartition(": ")[2] in ("sparse", "finetune")]
    assert [name for name in ran if ": " in name] == ["short: sparse", "long: finetune"]
    assert [pack.steps[0] for pack in packs] == [packs[0].steps[0]] * 3
    assert not leftovers(folder)
    stored = sorted((folder / "out" / "candidates").glob("*/candidate.json"))
    assert len(stored) == 2


def test_each_step_is_told_with_its_figures(whole):
    _, packs, _ = whole
    assert [[s.name for s in p.steps] for p in packs] == [
        ["sparse", "int8"],
        ["sparse", "int16x8"],
        ["sparse", "finetune", "int8"],
    ]
    for pack in packs:
        assert set(pack.steps[0].before) == FIGURES
        for before, after in zip(pack.steps, pack.steps[1:], strict=False):
            assert before.after == after.before
        first, last = pack.steps[0], pack.steps[-1]
        assert first.seconds > 0
        assert first.before["quality"] == pack.quality.reference
        assert first.after["gzip_bytes"] < first.before["gzip_bytes"]
        assert last.after["size_bytes"] == pack.artefact.size_bytes
        assert last.after["macs"] == pack.cost.macs
        assert last.after["quality"] == pack.quality.host
        assert last.after["arena_bytes"] == pack.memory.arena_bytes
        assert any("trained on 64 samples of train" in note for note in pack.notes)


def test_the_export_is_held_against_the_candidate(whole, tiny):
    folder, packs, _ = whole
    place = folder / "out" / "packs" / "tiny" / "generic-linux-x86_64"
    golden = {name: np.load(place / name / "golden.npz") for name in ("short", "long")}
    same = golden["short"]["output_000"] == golden["long"]["output_000"]
    assert not same.all()
    for pack in packs:
        assert pack.check.status == "ok"
        assert pack.quality.reference == 1.0


def test_resume_runs_nothing_again(whole, tiny, train):
    folder, packs, _ = whole
    recipes = [folder / f"{name}.toml" for name in ("short", "wide", "long")]
    heard = Heard()
    again = done(job(tiny, train, folder / "out", *recipes, resume=True), heard)
    assert [to_dict(pack) for pack in again] == [to_dict(pack) for pack in packs]
    assert not [name for name in heard.names if "sparse" in name or "finetune" in name]


def test_resume_goes_on_from_a_finished_step_with_the_same_bytes(whole, tiny, train):
    folder, packs, _ = whole
    for path in (folder / "out" / "packs").rglob("pack.json"):
        path.unlink()
    for path in (folder / "out" / "candidates").glob("*/model.keras"):
        if len(json.loads((path.parent / "candidate.json").read_text())["steps"]) == 2:
            path.write_bytes(b"damaged")
    heard = Heard()
    (again,) = done(job(tiny, train, folder / "out", folder / "long.toml", resume=True), heard)
    assert again.artefact.sha256 == packs[2].artefact.sha256
    assert "long: finetune" in heard.names
    assert "long: sparse" not in heard.names


def test_an_interrupted_training_goes_on_with_the_same_bytes(whole, tiny, train, tmp_path):
    folder, packs, _ = whole
    asked = job(tiny, train, tmp_path / "out", folder / "short.toml")
    with pytest.raises(KeyboardInterrupt), listening(Heard("sparse", done=10)):
        list(pack_all(asked))
    assert not list(tmp_path.rglob("candidate.json"))
    assert not list(tmp_path.rglob("pack.json"))
    assert not list(tmp_path.rglob("*.part"))
    assert len(list(tmp_path.rglob("training-*.ckpt"))) == 1
    heard = Heard()
    (again,) = done(replace(asked, resume=True), heard)
    assert heard.starts["sparse"] == 8
    assert again.artefact.sha256 == packs[0].artefact.sha256
    assert not leftovers(tmp_path)


def test_without_resume_every_step_is_run_again(whole, tiny, train):
    folder, _, _ = whole
    heard = Heard()
    done(job(tiny, train, folder / "out", folder / "short.toml"), heard)
    assert "short: sparse" in heard.names


def test_what_a_cell_cannot_learn_from_is_told_before_any_training(tiny, train, tmp_path):
    unlabelled = write_set(tmp_path, "unlabelled", x=np.zeros((8, 8, 8, 1), np.float32))
    taught = recipe(tmp_path, "taught", "float32", SPARSE)
    labelled = recipe(tmp_path, "labelled", "float32", SPARSE, FINETUNE)
    asked = job(tiny, unlabelled, tmp_path / "out", labelled)
    heard = Heard()
    with pytest.raises(DataError, match="labels"), listening(heard):
        list(pack_all(asked))
    assert "sparse" not in heard.names
    some, none = pack_all(job(tiny, unlabelled, tmp_path / "out", taught, labelled))
    assert some.status == "ok"
    assert none.error.code == DataError.code


def test_a_selection_of_no_layer_is_told_before_any_training(tiny, train, tmp_path):
    chosen = FINETUNE.replace("[[steps]]", '[[steps]]\nlayers = "nothing"')
    asked = job(tiny, train, tmp_path / "out", recipe(tmp_path, "a", "float32", SPARSE, chosen))
    heard = Heard()
    with pytest.raises(SpecError, match="matches no layer"), listening(heard):
        list(pack_all(asked))
    assert "sparse" not in heard.names


def test_a_flatbuffer_has_no_layers(whole, tiny, train, tmp_path):
    folder, _, _ = whole
    given = tmp_path / "given.tflite"
    given.write_bytes(to_float(load(tiny.model)))
    asked = replace(job(tiny, train, tmp_path / "out", folder / "short.toml"), model=given)
    with pytest.raises(ModelError, match="no layers"):
        list(pack_all(asked))


def test_pack_from_python_trains_too(tiny, train, tmp_path):
    made = ep.pack(
        tiny.model,
        target="generic-linux-x86_64",
        recipe=str(recipe(tmp_path, "mine", "float32", FINETUNE)),
        train=str(train),
        out=tmp_path / "out",
    )
    assert [step.name for step in made.steps] == ["finetune", "float32"]
    assert made.steps[0].changed
