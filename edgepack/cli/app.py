"""The ``edgepack`` command: lazily loaded subcommands, and the one place that catches errors.

Importing this costs a click import; a subcommand's module is imported when it runs.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import FrameType

import click

from edgepack.errors import EdgepackError, ModelError, SpecError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
ROOM = "make room, or choose another place; TMPDIR says where temporary files go"

SMALLER = "a smaller --shape, a smaller model or a machine with more memory"

# name → (module:attribute, one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("edgepack.cli.demo:demo", "Train, pack, measure and report a small model, here."),
    "pack": ("edgepack.cli.pack:pack", "Make a model small and fast for targets, by recipes."),
    "inspect": ("edgepack.cli.inspect:inspect", "Say what a .tflite file is and whether it fits."),
    "measure": (
        "edgepack.cli.measure:measure",
        "Run models on devices: latency, memory, accuracy.",
    ),
    "try": (
        "edgepack.cli.try_one:try_one",
        "Run one real input on this host and on a device, side by side.",
    ),
    "debug": (
        "edgepack.cli.debug:debug",
        "Say which layers of an exported model lose accuracy, and rescue it.",
    ),
    "run": ("edgepack.cli.plan:run", "Pack, measure and report what a plan lists."),
    "report": ("edgepack.cli.report:report", "Write the report of an output folder."),
    "targets": ("edgepack.cli.specs:targets", "Kinds of hardware: list, show, check."),
    "recipes": ("edgepack.cli.specs:recipes", "What is done to a model: list, show, check."),
    "devices": ("edgepack.cli.specs:devices", "Devices on the bench: list, show, check, probe."),
    "calibration": ("edgepack.cli.specs:calibration", "Data descriptions: list, show, check."),
}


class LazyGroup(click.Group):
    """A group whose commands stand in ``COMMANDS`` and are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest name where there is no such command."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            ctx.fail(f"no command '{args[0]}'" + (f"; did you mean '{near[0]}'?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show tracebacks and the library's log.")
@click.version_option(package_name="edgepack")
def cli(debug: bool) -> None:
    """Turn a trained Keras model into the smallest, fastest edge model, proved on the device."""
    if debug:
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
        logging.getLogger("paramiko").setLevel(logging.WARNING)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; return its exit code (the table in README.md)."""
    debug = "--debug" in arguments
    _open_closed_streams()
    interrupted = _turn_signals_into_interrupts()
    try:
        result = cli.main(list(arguments), prog_name="edgepack", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        with contextlib.suppress(BrokenPipeError):
            error.show()
        return 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return 130
    except EdgepackError as error:
        if debug:
            traceback.print_exc()
        tell(error)
        return error.code
    except BrokenPipeError:
        _forget_stdout()
        return 0
    except MemoryError as error:
        if debug:
            traceback.print_exc()
        tell(ModelError(f"not enough memory on this machine: {error or 'it is used up'}", SMALLER))
        return ModelError.code
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            tell(
                SpecError(f"cannot write {error.filename or 'the output'}: {error.strerror}", ROOM)
            )
            _forget_stdout()
            return SpecError.code
        if interrupted():  # native code that was interrupted fails in its own words
            click.echo("interrupted", err=True)
            return 130
        if debug:
            traceback.print_exc()
        click.echo(f"error: a bug in edgepack: {type(error).__name__}: {error}", err=True)
        click.echo("hint: run again with --debug and report what it prints", err=True)
        return 70


def tell(error: EdgepackError) -> None:
    """Show an error to a person: one line of what, one of what to do."""
    with contextlib.suppress(BrokenPipeError):
        click.echo(f"error: {' '.join(error.message.split())}", err=True)
        if error.hint:
            click.echo(f"hint: {' '.join(error.hint.split())}", err=True)


def _open_closed_streams() -> None:
    """Give a process that was started without stdout or stderr a place to write to."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_WRONLY)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, os.fdopen(number, "w", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name may hold what is no UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")


def _forget_stdout() -> None:
    """What is still buffered goes nowhere, or the interpreter complains once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _turn_signals_into_interrupts() -> Callable[[], bool]:
    """Make them raise KeyboardInterrupt; the result tells whether one came."""
    came: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    return lambda: bool(came)
