"""What a matrix of cells prints and exits with, also when it is cut short."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import click

from edgepack.cli.app import tell
from edgepack.errors import SpecError
from edgepack.files import to_json
from edgepack.records import Measurement, Pack, Report, to_dict

MISSED = 1
R = TypeVar("R", bound=Pack | Measurement)


@dataclass(frozen=True)
class Outcome:
    """The cells that were finished."""

    done: Sequence[Pack | Measurement]

    def code(self, *, missed: bool) -> int:
        """0; or the first failed cell's code; or 1 where a limit was ``missed``."""
        failures = [record.error.code for record in self.done if record.error is not None]
        return failures[0] if failures else MISSED * missed


def told_problems(report: Report) -> int:
    """Tell what a report could not read; the first one's exit code, 0 where there is none."""
    for problem in report.problems:
        tell(SpecError(problem.message, problem.hint))
    return report.problems[0].code if report.problems else 0


@contextmanager
def finish(
    write: Callable[[str], None],
    as_json: bool,
    done: Sequence[R],
    table: Callable[[Sequence[R]], str],
) -> Iterator[Outcome]:
    """After the block, print the cells in ``done``; also, where there are any, after Ctrl-C.

    An error that stops the whole block prints nothing on stdout unless cells were finished.
    """
    try:
        yield Outcome(done)
    except BaseException:
        if done:
            _print(write, as_json, done, table)
        raise
    _print(write, as_json, done, table)


def _print(
    write: Callable[[str], None],
    as_json: bool,
    done: Sequence[R],
    table: Callable[[Sequence[R]], str],
) -> None:
    if as_json:
        write(to_json([to_dict(record) for record in done]))
    else:
        write(table(done))
    for record in done:
        if record.error is not None:
            where = getattr(record, "recipe", "") or record.status
            click.echo(f"{where}: {record.status}: {record.error.message}", err=True)
            if record.error.hint:
                click.echo(f"hint: {record.error.hint}", err=True)
