"""What the table says of each pass is what the pass does."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module

import pytest

from edgepack.passes import table
from edgepack.spec.steps import FAMILIES
from edgepack.spec.toml import parse

READS = {
    "context.scheme": table.SCHEME,
    "context.channels": table.CHANNELS,
    "context.samples": table.LOOKS,
    "context.calibration": table.LOOKS,
    "samples_of(": table.LOOKS,
}


def test_every_pass_has_a_family_and_a_module():
    assert set(table.MODULES) == set(FAMILIES)


@pytest.mark.parametrize("name", table.MODULES)
def test_what_a_pass_reads_is_in_the_key_of_its_result(name):
    source = inspect.getsource(import_module(table.MODULES[name]))
    for words, passes in READS.items():
        assert words not in source or name in passes, words


@pytest.mark.parametrize("name", table.MODULES)
def test_every_pass_has_options_with_defaults_that_explain_themselves(name):
    options = import_module(table.MODULES[name]).Options
    assert options() == parse(options, {}, name)
    assert options.__doc__


def test_options_need_neither_tensorflow_nor_keras():
    code = (
        "import sys\n"
        "from edgepack.cli.app import run\n"
        "assert run(['recipes', 'check']) == 0\n"
        "assert run(['pack', '--help']) == 0\n"
        "print(sorted({'tensorflow', 'keras', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
