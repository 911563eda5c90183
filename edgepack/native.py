"""What native libraries print, kept from the user: it goes to the log."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)


@contextlib.contextmanager
def captured() -> Iterator[Callable[[], str]]:
    """Keep what native code writes to stdout and stderr; it goes to the log when the block ends.

    The yielded function gives what was written so far. Python warnings, which these tools give
    about their own insides, go nowhere.
    """
    with tempfile.TemporaryFile() as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saved = [os.dup(1), os.dup(2)]
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)

        def read() -> str:
            size = os.fstat(file.fileno()).st_size
            text = os.pread(file.fileno(), min(size, 1 << 20), max(0, size - (1 << 20)))
            return text.decode(errors="replace")

        try:
            yield read
        finally:
            for number, old in zip((1, 2), saved, strict=True):
                os.dup2(old, number)
                os.close(old)
            if text := read().strip():
                log.debug("%s", text)
