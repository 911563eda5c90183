"""Code from a user's own file: run only where he has allowed it, by its path."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from edgepack.errors import EdgepackError


def run_file(path: Path, error: type[EdgepackError]) -> ModuleType:
    """The module in ``path``, executed; what it prints goes to stderr.

    Raises ``error`` where there is no such file or its code fails.
    """
    if not path.is_file():
        raise error(f"{path}: no such Python file", "check the path of the code file")
    spec = importlib.util.spec_from_file_location(f"edgepack_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise error(f"{path}: not a Python file", "name a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as exc:
        reason = f"{type(exc).__name__}: {exc}".splitlines()[0]
        raise error(f"{path}: its code failed: {reason}", "mend the file") from exc
    return module


def function(
    reference: str, folder: Path, error: type[EdgepackError], allow_code: bool
) -> Callable[..., Any]:
    """The function that ``reference`` (``file.py:function``, relative to ``folder``) names.

    Raises ``error`` where code is not allowed, or the file or the function is missing.
    """
    file, _, name = reference.rpartition(":")
    if not file or not name:
        raise error(f"'{reference}' names no function", "write file.py:function")
    if not allow_code:
        raise error(
            f"'{reference}' runs Python code, which is not allowed by default",
            "pass --allow-code if you trust that file",
        )
    found = getattr(run_file(folder / file, error), name, None)
    if not callable(found):
        raise error(f"{folder / file}: has no function '{name}'", f"define {name}() there")
    called: Callable[..., Any] = found
    return called
