"""What the command line asks for beside the plain burst, and what a rival gets."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import ModelError, SpecError
from edgepack.graph.facts import facts
from edgepack.measuring.meter import CommandMeter
from edgepack.measuring.take import Golden
from edgepack.spec.device import Device, DeviceOptions
from edgepack.spec.target import Target
from edgepack.workflow.also import Wanted, also_of, rival_of, wanted
from edgepack.workflow.golden import Subject
from tests.unit.graph import flatbuffers

HERE = Device(id="here", target="t", link="local")
TARGET = Target(id="t", name="t", kind="linux", arch="x86_64", runtimes=("litert-2.3",))


@pytest.mark.parametrize(
    ("text", "counts"),
    [("1,2,4", (1, 2, 4)), ("4,1,4", (1, 4)), (" 2 , 1 ", (1, 2)), ("1024", (1024,))],
)
def test_counts_of_threads(text: str, counts: tuple[int, ...]) -> None:
    assert wanted(threads=text).threads == counts


@pytest.mark.parametrize("text", ["", ",", "1,", "0", "-1", "two", "1.5", "1025", "١"])
def test_counts_that_are_none(text: str) -> None:
    with pytest.raises(SpecError, match="--threads"):
        wanted(threads=text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("1", 1)]
)
def test_times(text: str, seconds: float) -> None:
    assert wanted(sustain=text).sustain_seconds == seconds


@pytest.mark.parametrize("text", ["", "m", "0", "-5m", "10 minutes", "25h", "1e3", "inf", "nan"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(SpecError, match="--sustain"):
        wanted(sustain=text)


@given(st.text())
def test_no_text_is_anything_but_a_time_or_an_error(text: str) -> None:
    with contextlib.suppress(SpecError):
        assert 1 <= wanted(sustain=text).sustain_seconds <= 86_400


def written(folder: Path, name: str, size: int) -> Path:
    (folder / name).write_bytes(flatbuffers.relu(size))
    return folder / name


def subject(path: Path) -> Subject:
    known = facts(path)
    return Subject(path=path, signature=known.signatures[0], digest=known.sha256)


def test_a_rival_that_is_not_there_or_no_model(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        wanted(against=tmp_path / "no.tflite")
    (tmp_path / "bad.tflite").write_bytes(b"bad")
    with pytest.raises(ModelError, match=r"bad\.tflite"):
        rival_of(wanted(against=tmp_path / "bad.tflite"))
    assert rival_of(Wanted()) is None


@pytest.mark.parametrize("size", [4, 6])
def test_a_rival_gets_the_same_inputs_where_it_can_take_them(tmp_path: Path, size: int) -> None:
    mine = subject(written(tmp_path, "mine.tflite", 4))
    asked = wanted(against=written(tmp_path, "other.tflite", size))
    rival = rival_of(asked)
    golden = Golden(inputs=[], expected=None, outputs=())
    also = also_of(asked, rival, mine, golden, device=HERE, target=TARGET, seed=0)
    assert also.rival is not None
    assert (also.rival.model, also.rival.recipe) == ("other", "")
    assert (also.rival.inputs is golden.inputs) == (size == 4)
    if size == 6:
        (stack,) = also.rival.inputs
        assert stack.shape == (TARGET.measure.golden_samples, 1, 6)


def test_what_is_not_asked_for_changes_no_key(tmp_path: Path) -> None:
    assert Wanted().key(None) == {}
    asked = wanted(threads="1,2", sustain="5", against=written(tmp_path, "o.tflite", 4))
    rival = rival_of(asked)
    assert rival is not None
    assert asked.key(rival) == {
        "threads": [1, 2], "sustain_seconds": 5.0, "against": rival.digest,
    }  # fmt: skip


def test_a_meter_is_the_devices() -> None:
    mine = Subject(path=Path("m"), signature=None, digest="")  # type: ignore[arg-type]
    golden = Golden(inputs=[], expected=None, outputs=())
    metered = Device(
        id="d", target="t", link="local", options=DeviceOptions(meter=("/bin/meter", "-x"))
    )
    also = also_of(Wanted(), None, mine, golden, device=metered, target=TARGET, seed=0)
    assert isinstance(also.meter, CommandMeter)
    assert also_of(Wanted(), None, mine, golden, device=HERE, target=TARGET, seed=0).meter is None
