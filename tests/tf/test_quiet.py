"""How TensorFlow comes into a process."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]

CODE = """
import gc, sys
from edgepack.model.quiet import import_tensorflow
import_tensorflow()
import_tensorflow()
assert {"keras", "tensorflow"} <= sys.modules.keys()
assert "sklearn" not in sys.modules
assert gc.isenabled() and gc.get_freeze_count() > 100_000
import sklearn.datasets
assert len(sklearn.datasets.load_digits().target)
"""


def test_what_is_not_needed_stays_out_and_comes_in_later() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_failed_import_leaves_the_collector_as_it_was() -> None:
    code = (
        "import gc, sys\n"
        "from edgepack.model.quiet import import_tensorflow\n"
        "sys.modules['tensorflow'] = None\n"
        "try: import_tensorflow()\n"
        "except ImportError: pass\n"
        "assert gc.isenabled() and 'sklearn' not in sys.modules\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
