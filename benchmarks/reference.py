"""Where the public models and labelled data lie that benchmarks are run on."""

from __future__ import annotations

import os
from pathlib import Path


def reference_data() -> Path:
    """The folder that EDGEPACK_REFERENCE_DATA names; ends the benchmark where there is none."""
    folder = Path(os.environ.get("EDGEPACK_REFERENCE_DATA", ""))
    if not os.environ.get("EDGEPACK_REFERENCE_DATA") or not folder.is_dir():
        raise SystemExit("set EDGEPACK_REFERENCE_DATA to the folder of reference models and data")
    return folder
