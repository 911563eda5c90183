"""Progress on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest

from edgepack.cli.progress import shown
from edgepack.events import step


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def work() -> None:
    with step("count", total=3) as advance:
        for _ in range(3):
            advance(1)
    with step("open-ended"):
        pass
    with pytest.raises(ValueError, match="no"), step("break"):
        raise ValueError("no")


def test_a_terminal_sees_every_step_come_to_its_end(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with shown():
        work()
    text = terminal.getvalue()
    assert "3/3" in text
    assert "open-ended" in text
    assert "break: failed" in text


def test_elsewhere_each_step_is_a_line_at_its_end(capsys):
    with shown():
        work()
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" in ")[0] for line in lines] == [
        "count: done",
        "open-ended: done",
        "break: failed",
    ]


def test_names_are_no_markup():
    """A model's or a layer's name may look like a tag of the library that draws tables."""
    from edgepack.cli.tables import as_text, new_table

    table = new_table("layer [a]")
    table.add_row("[/x] :smile: v[2]")
    assert as_text(table).split() == ["layer", "[a]", "[/x]", ":smile:", "v[2]"]
