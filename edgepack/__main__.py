"""``python -m edgepack`` is the same as ``edgepack``."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        from edgepack.cli.app import run
    except KeyboardInterrupt:  # Ctrl-C before there is anybody to take it
        end(130)
    end(run(sys.argv[1:]))


def end(code: int) -> NoReturn:
    """Exit with this code, whatever signal comes now or came before."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # CPython remembers an exec() that Ctrl-C ended, though it was caught, and then dies of the
    # signal instead of exiting; another exec() makes it forget (dataclasses compile with exec).
    exec("")  # noqa: S102
    sys.exit(code)


if __name__ == "__main__":
    main()
