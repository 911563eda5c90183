"""The layers that lose most, on the page and in Markdown."""

from __future__ import annotations

from dataclasses import replace

from edgepack.records import Debug, LayerError, Rescue, Suggestion, TensorError
from edgepack.reporting.collect import build
from edgepack.reporting.losses import WORST, table, told
from edgepack.reporting.markdown import to_markdown
from edgepack.reporting.page import to_html
from tests.unit.reporting.realistic import pack


def layer(name: str, own: float | None, **more) -> LayerError:
    return LayerError(
        sqnr_db=20.0,
        cosine=0.995,
        max_abs=0.5,
        max_lsb=4.0,
        layer=name,
        op="CONV_2D",
        tensor=f"model/{name}",
        dtype="int8",
        weights="int8",
        granularity="per-channel",
        macs=100,
        weight_bytes=10,
        local_sqnr_db=own,
        **more,
    )


def found(*layers: LayerError, **more) -> Debug:
    return Debug(
        model="cnn",
        file="cnn-int8.tflite",
        sha256=pack("int8").artefact.sha256,
        runtime="litert-2.3",
        samples=64,
        matched=len(layers),
        unmatched=(),
        output=TensorError(sqnr_db=20.0, cosine=0.99, max_abs=0.5),
        layers=layers,
        ranked=tuple(row.layer for row in layers),
        suggestions=(),
        **more,
    )


BAD = layer(
    "quiet",
    3.25,
    from_input=0.9,
    from_weights=0.06,
    from_output=0.04,
    suggestion=Suggestion(what="the step equalize", why="one channel is loud"),
)
RESCUED = Rescue(
    limit="accuracy=1pt",
    met=True,
    scheme="int16x8",
    otherwise="int8",
    layers=("quiet", "loud"),
    metric="top1",
    reference=0.9,
    before=0.5,
    after=0.895,
    size_before_bytes=1000,
    size_after_bytes=1100,
    wide_macs=0.1,
    samples=500,
    data="d",
    tried=(),
)


def report(debug: Debug):
    packs = [pack("float32"), pack("int8")]
    return build(packs, [], {}, [], debugs={debug.sha256: debug})


def test_the_worst_layers_come_first_and_only_a_few():
    many = [layer(f"fine-{place}", 40.0 + place) for place in range(9)]
    section = report(found(*many, BAD, layer("exact", None))).sections[0]
    rows = table(section).rows
    assert len(rows) == WORST
    assert [row[1].text for row in rows[:2]] == ["quiet", "fine-0"]
    assert rows[0][2].text == "3.2 dB"
    assert rows[0][2].detail == "90% input"
    assert rows[0][-1].text == "the step equalize"


def test_the_page_and_markdown_tell_it_for_the_file_that_it_is_of():
    made = report(found(layer("fine", 40.0), BAD, rescued=RESCUED))
    assert list(made.sections[0].debugs) == ["int8"]
    html, text = to_html(made), to_markdown(made)
    for words in ("Where accuracy goes", "one channel is loud"):
        assert words in html
    for page in (html, text):
        assert "quiet loses most: 3.2 dB by itself (90% input)" in page
        assert "With quiet, loud in int16x8: top1 89.50 %" in page


def test_nothing_is_said_of_files_that_were_not_looked_at():
    other = replace(found(BAD), sha256="0" * 64)
    made = report(other)
    assert made.sections[0].debugs == {}
    assert "Where accuracy goes" not in to_html(made)
    assert "loses most" not in to_markdown(made)


def test_an_exact_file_loses_nothing():
    assert told(found(layer("exact", None))) == "no layer loses anything"


def test_hostile_names_are_inert():
    hostile = "<img src=x onerror=alert(1)>|`"
    made = report(found(replace(BAD, layer=hostile)))
    assert "<img" not in to_html(made)
    assert "<img" not in to_markdown(made)
