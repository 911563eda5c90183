"""Help is complete, quick to import, and the exit codes of plain mistakes are the contract's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from edgepack.cli.app import COMMANDS, cli, run

ROOT = Path(__file__).parents[2]
OTHER_PROGRAMS = {"apt.py", "building.py", "delivery.py", "image.py", "state.py"}
"""They call apt, cmake, pip and dpkg."""
HEAVY = ("tensorflow", "keras", "numpy", "pydantic", "rich", "paramiko", "jinja2")


def loaded_by(*arguments: str) -> set[str]:
    """The top-level modules that a command line imports."""
    code = (
        "import sys\nfrom edgepack.cli.app import run\n"
        f"code = run({list(arguments)!r})\n"
        "sys.stderr.write(' '.join({name.partition('.')[0] for name in sys.modules}))\n"
        "sys.exit(code)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(found.stderr.split())


def test_help_imports_nothing_heavy():
    assert not loaded_by("--help") & set(HEAVY)


@pytest.mark.parametrize("command", ["recipes", "targets", "devices", "calibration"])
def test_checking_specs_imports_no_tensorflow(command):
    assert not loaded_by(command, "check") & {"tensorflow", "keras", "litert_quantizer"}


def test_every_command_has_help(capsys):
    assert run(["--help"]) == 0
    listed = capsys.readouterr().out
    for name in COMMANDS:
        assert f"  {name} " in listed
        assert run([name, "--help"]) == 0
        assert "Usage: edgepack" in capsys.readouterr().out


def known_flags(command: click.Command) -> set[str]:
    """The options of a command and of all below it."""
    found = {flag for parameter in command.params for flag in parameter.opts}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found |= known_flags(command.get_command(context, name))
    return found


def test_every_flag_that_the_package_or_the_readme_names_exists():
    pages = (ROOT / "README.md", ROOT / "docs" / "devices.md")
    files = [*(ROOT / "edgepack").rglob("*.py"), *pages]
    named = {
        flag: path.name
        for path in files
        if path.name not in OTHER_PROGRAMS
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", path.read_text())
    }
    unknown = set(named) - known_flags(cli) - {"--help"}
    assert not unknown, {flag: named[flag] for flag in unknown}
    assert {"--calibration", "--allow-lambda"} <= set(named)


def test_the_readme_lists_every_command():
    section = (ROOT / "README.md").read_text().split("\n## Commands\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    listed = [name.removeprefix("edgepack ") for name in re.findall("`([^`]*)`", " ".join(cells))]
    assert sorted(listed) == sorted(COMMANDS)


def test_module_and_script_are_the_same():
    outputs = [
        subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        for argv in (
            [sys.executable, "-m", "edgepack", "--version"],
            [str(Path(sys.executable).with_name("edgepack")), "--version"],
        )
    ]
    assert outputs[0] == outputs[1]
    assert "0.1.0" in outputs[0]


def test_unknown_command_suggests_the_nearest(capsys):
    assert run(["mesure"]) == 2
    assert "did you mean 'measure'" in capsys.readouterr().err


def test_usage_errors_exit_with_2(capsys):
    assert run(["pack"]) == 2
    assert run(["report"]) == 2
    assert run(["inspect", "x.tflite", "--nope"]) == 2
    assert capsys.readouterr().out == ""


def test_a_bug_is_70_in_one_line_and_a_traceback_only_with_debug(capsys, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("edgepack.graph.facts.facts", broken)
    assert run(["inspect", "x.tflite"]) == 70
    told = capsys.readouterr().err
    assert "a bug in edgepack: ZeroDivisionError: by zero" in told
    assert "Traceback" not in told
    assert run(["--debug", "inspect", "x.tflite"]) == 70
    assert "Traceback" in capsys.readouterr().err
