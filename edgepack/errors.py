"""One tree of errors: each child says what the user must change and has one exit code.

Only ``edgepack.cli`` catches these; everything below raises them, translated from foreign
exceptions at the boundary where those arise.
"""

from __future__ import annotations


class EdgepackError(Exception):
    """Something the user can mend. ``message`` says what and where, ``hint`` what to do."""

    code = 70

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class SpecError(EdgepackError):
    """The command line, a TOML file or an output path is wrong."""

    code = 2


class ModelError(EdgepackError):
    """The model cannot be read, converted or run."""

    code = 3


class FitError(EdgepackError):
    """The model or the recipe does not fit the target: ``needs`` against ``has``."""

    code = 4

    def __init__(self, message: str, hint: str = "", *, needs: str = "", has: str = "") -> None:
        super().__init__(message, hint)
        self.needs = needs
        self.has = has


class LinkError(EdgepackError):
    """The device cannot be reached, or the connection broke."""

    code = 5


class LinkTimeout(LinkError):
    """The device did not answer within a call's deadline."""


class RemoteCommandError(LinkError):
    """A command on the device ended with a non-zero code."""

    def __init__(self, message: str, hint: str = "", *, command: str, returncode: int, stderr: str):
        super().__init__(message, hint)
        self.command = command
        self.returncode = returncode
        self.stderr = stderr


class MeasureError(EdgepackError):
    """The device was reached, but the measurement itself failed."""

    code = 6


class DataError(EdgepackError):
    """A data set is missing, malformed, or does not suit the model."""

    code = 7
