"""The error tree: one exit code each, told apart by what the user must change."""

from __future__ import annotations

import pytest

from edgepack import errors
from edgepack.errors import EdgepackError, FitError, LinkTimeout, RemoteCommandError, SpecError
from edgepack.records import ErrorRecord

CODES = {
    "EdgepackError": 70,
    "SpecError": 2,
    "ModelError": 3,
    "FitError": 4,
    "LinkError": 5,
    "LinkTimeout": 5,
    "RemoteCommandError": 5,
    "MeasureError": 6,
    "DataError": 7,
}


def test_every_error_has_the_contracts_exit_code():
    found = {
        name: kind.code
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, EdgepackError)
    }
    assert found == CODES


def test_message_is_what_prints_and_hint_is_apart():
    error = SpecError("a.toml: wrong", "mend it")
    assert (str(error), error.message, error.hint) == ("a.toml: wrong", "a.toml: wrong", "mend it")
    assert SpecError("x").hint == ""


def test_a_fit_error_says_what_is_needed_and_what_there_is():
    error = FitError("too large", "prune it", needs="130 KiB", has="128 KiB")
    assert (error.needs, error.has, error.hint) == ("130 KiB", "128 KiB", "prune it")
    assert (FitError("x").needs, FitError("x").has) == ("", "")


def test_a_remote_command_error_keeps_command_code_and_stderr():
    error = RemoteCommandError("failed", command="uname -m", returncode=127, stderr="not found")
    assert (error.command, error.returncode, error.stderr) == ("uname -m", 127, "not found")
    assert error.hint == ""
    with pytest.raises(errors.LinkError):
        raise error


def test_an_error_becomes_a_record():
    record = ErrorRecord.of(LinkTimeout("no answer in 15 s", "is it on?"))
    assert record == ErrorRecord(code=5, message="no answer in 15 s", hint="is it on?")
