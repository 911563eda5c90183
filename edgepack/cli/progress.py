"""Show the library's events on stderr: a live line on a terminal, one line a step elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from edgepack.events import Event, listening


@contextmanager
def shown() -> Iterator[None]:
    """Show every step that is emitted inside the block."""
    if not sys.stderr.isatty():
        with listening(_print_end):
            yield
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks = {}

        def update(event: Event) -> None:
            if event.kind == "begin":
                tasks[event.step] = progress.add_task(
                    escape(event.name), total=event.total, detail=""
                )
                return
            task = tasks[event.step]
            if event.kind == "advance":
                progress.update(task, completed=event.done, detail=event.detail)
            elif event.failed:
                progress.update(task, description=f"[red]{escape(event.name)}: failed")
                progress.stop_task(task)
            else:
                total = event.total or max(event.done, 1)
                progress.update(task, total=total, completed=total)

        with listening(update):
            yield


def _print_end(event: Event) -> None:
    if event.kind == "end":
        outcome = "failed" if event.failed else "done"
        detail = f" ({event.detail})" if event.detail else ""
        # One write: several devices may end a step at once.
        sys.stderr.write(f"{event.name}: {outcome} in {event.seconds:.1f} s{detail}\n")
