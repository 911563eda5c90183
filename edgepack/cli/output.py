"""stdout is data, stderr is for people: keep them apart, whatever native libraries print."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edgepack.files import encoded


@contextmanager
def data_stdout() -> Iterator[Callable[[str], None]]:
    """Yield a writer to the real stdout; everything else that writes there goes to stderr.

    File descriptor 1 itself is redirected, so that C++ libraries and children are caught too.
    """
    sys.stdout.flush()
    real = os.dup(1)
    os.dup2(2, 1)

    def write(text: str) -> None:
        content = encoded(text)
        while content:
            content = content[os.write(real, content) :]

    try:
        yield write
    finally:
        sys.stdout.flush()
        os.dup2(real, 1)
        os.close(real)
