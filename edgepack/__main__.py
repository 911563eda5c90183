"""``python -m edgepack`` is the same as ``edgepack``."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        from edgepack.cli.app import run
    except KeyboardInterrupt:  # Ctrl-C before there is anybody to take it
        sys.exit(130)
    code = run(sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is said: let it end with its own code
    sys.exit(code)


if __name__ == "__main__":
    main()
