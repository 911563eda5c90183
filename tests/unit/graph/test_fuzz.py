"""Whatever happens to a file's bytes, it gives facts or one ModelError."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepack.errors import ModelError
from edgepack.files import to_json
from edgepack.graph.constants import values
from edgepack.graph.facts import facts
from edgepack.graph.parse import parse
from edgepack.records.document import to_dict
from tests.unit.graph.flatbuffers import convolution, model, operator, subgraph, tensor
from tests.unit.graph.test_constants import DENSE, sparse_model
from tests.unit.graph.test_plan import loop

SEEDS = {
    "convolution": convolution(),
    "sparse": sparse_model(DENSE, 2),
    "loop": model(
        subgraph(
            [tensor("x", (4,)), tensor("y", (4,))],
            [operator("WHILE", [0], [1], loop(1, 2)), operator("Own", [1], [0])],
            [0],
            [1],
        ),
        subgraph([tensor("a", (4,)), tensor("b", ())], [operator("LESS", [0], [1])], [0], [1]),
        subgraph([tensor("a", (4,)), tensor("b", (4,))], [operator("ABS", [0], [1])], [0], [1]),
        signatures=(("k", 0, {"x": 0}, {"y": 1}),),
    ),
}
WORDS = [0, 1, 4, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFC]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    content = bytearray(SEEDS[draw(st.sampled_from(sorted(SEEDS)))])
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(content) - 4))
        match draw(st.sampled_from(["byte", "word", "copy", "cut"])):
            case "byte":
                content[place] = draw(st.integers(0, 255))
            case "word":
                word = draw(st.sampled_from(WORDS))
                content[place : place + 4] = word.to_bytes(4, "little")
            case "copy":
                source = draw(st.integers(0, len(content) - 4))
                content[place : place + 4] = content[source : source + 4]
            case "cut":
                del content[max(place, 8) :]
                content += bytes(4)
    return bytes(content)


def judge(content: bytes, path: Path) -> None:
    """Facts as strict JSON, or one line; and each constant readable, or one line."""
    path.write_bytes(content)
    line = complaint(lambda: to_json(to_dict(facts(path))))
    if line:
        assert line.startswith((str(path), "tensor "))
        return
    for item in parse(content, "m").subgraphs:
        for one in item.tensors:
            if one.constant:
                complaint(lambda one=one: values(one).reshape(one.shape))


def complaint(act: Callable[[], object]) -> str:
    """The message of the ModelError that ``act`` raises, which is one short line; else ""."""
    try:
        act()
    except ModelError as error:
        line = error.message
    else:
        return ""
    assert line.isprintable()
    assert len(line) < 1000
    return line


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=damaged())
def test_damaged_models(content, tmp_path):
    judge(content, tmp_path / "m.tflite")


@given(content=st.binary(max_size=200))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_noise_behind_the_mark(content, tmp_path):
    judge(content[:4].ljust(4, b"\x08") + b"TFL3" + content[4:], tmp_path / "m.tflite")


@pytest.mark.parametrize("name", sorted(SEEDS))
def test_every_truncation(name, tmp_path):
    content = SEEDS[name]
    for end in range(0, len(content), 7):
        judge(content[:end], tmp_path / "m.tflite")


@pytest.mark.slow
def test_damaged_real_models(reference_data, tmp_path):
    """A few seeded mutations of every real file that is small enough to try quickly."""
    source = random.Random(7)
    for path in sorted((reference_data / "tflite_zoo").glob("*.tflite")):
        original = path.read_bytes()
        if len(original) > 120_000 or len(original) < 100:
            continue
        for _ in range(12):
            content = bytearray(original)
            for _ in range(source.randint(1, 20)):
                place = source.randrange(len(content) - 4)
                content[place : place + 4] = source.choice(WORDS).to_bytes(4, "little")
            if source.random() < 0.2:
                del content[source.randrange(8, len(content)) :]
            judge(bytes(content), tmp_path / "m.tflite")
