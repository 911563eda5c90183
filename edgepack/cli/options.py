"""Options that several commands share, and what they are turned into."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edgepack.errors import SpecError

F = TypeVar("F", bound=Callable[..., Any])

as_json = click.option("--json", "as_json", is_flag=True, help="Strict JSON on stdout.")


def _named(context: click.Context, option: click.Parameter, given: str | None) -> Path | None:
    """A place to write to; an empty name, as of an unset variable, is none."""
    if given == "":
        raise SpecError("-o: the name is empty", "say where to write")
    return None if given is None else Path(given)


def out_folder(**more: Any) -> Callable[[F], F]:
    """``-o DIR``."""
    kind = click.Path(file_okay=False)
    return click.option("-o", "--output", "out", type=kind, callback=_named, **more)


out_file = click.option("-o", "--output", "file", type=click.Path(dir_okay=False), callback=_named)


def folder_option(name: str) -> Callable[[F], F]:
    """``--targets DIR`` and the like: a further folder of TOML files."""
    return click.option(
        f"--{name}",
        f"{name}_folders",
        multiple=True,
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        help=f"A further folder of {name}, searched first.",
    )


def _named_shapes(
    context: click.Context, option: click.Parameter, given: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
    """``NAME=1,96,96,3`` as name → sizes; a name may hold ``=`` itself."""
    found = {}
    for text in given:
        name, _, sizes = text.rpartition("=")
        try:
            found[name] = tuple(int(size) for size in sizes.split(","))
        except ValueError as error:
            raise click.BadParameter(f"'{text}' is not like input=1,96,96,3") from error
    return found


shapes = click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="NAME=SIZES",
    callback=_named_shapes,
    help="Sizes that the model leaves open: input=1,96,96,3.",
)
evaluation = click.option("--evaluation", metavar="D", help="Data that judges: id or path.")
seed = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)


def trust_options(command: F) -> F:
    """The flags by which a user allows what is refused by default."""
    for option in (
        click.option("--allow-code", is_flag=True, help="Run Python named in data descriptions."),
        click.option("--allow-lambda", is_flag=True, help="Load Lambda layers: the model is code."),
        click.option("--allow-overlap", is_flag=True, help="Go on where data sets share samples."),
        click.option(
            "--custom-objects",
            type=click.Path(path_type=Path, dir_okay=False),
            help="A Python file, trusted, that defines the model's own layers.",
        ),
    ):
        command = option(command)
    return command
