"""``edgepack --help`` against a bare ``import click``: goal at most 2.5×."""

from __future__ import annotations

import statistics
import sys

from benchmarks.timing import cores, interleaved, line, verdict


def main() -> None:
    """Print both, and their ratio."""
    python = sys.executable
    runs = interleaved(
        {
            "import click": [python, "-c", "import click"],
            "edgepack --help": [python, "-m", "edgepack", "--help"],
        },
        repeats=20,
    )
    print(f"startup, {cores()}")
    for name, found in runs.items():
        print(line(name, found))
    medians = [statistics.median(r.seconds for r in found) for found in runs.values()]
    print(verdict("edgepack --help / import click", medians[1] / medians[0], 2.5))


if __name__ == "__main__":
    main()
