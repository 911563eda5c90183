"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from edgepack.model.quiet import import_tensorflow
from tests.needs import needs

# How long an example takes says more about the machine than about the code.
# CI says the same of the same code; elsewhere each run looks at examples of its own.
settings.register_profile("edgepack", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("edgepack")


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of real models and labelled data."""
    folder = Path(os.environ.get("EDGEPACK_REFERENCE_DATA", ""))
    there = bool(os.environ.get("EDGEPACK_REFERENCE_DATA")) and folder.is_dir()
    needs(there, "set EDGEPACK_REFERENCE_DATA to the folder of reference models and data")
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory):
    """A tiny classifier with calibration and evaluation data, made once."""
    from tests.tiny import make_tiny

    return make_tiny(tmp_path_factory.mktemp("tiny"))


TRACED = "COVERAGE_PROCESS_CONFIG"
"""By this variable coverage traces the processes that a test starts."""
_traced: dict[str, str] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What a test that is not covered starts is not traced either: tracing takes its time."""
    if TRACED in os.environ:
        _traced[TRACED] = os.environ.pop(TRACED)
    if item.get_closest_marker("no_cover") is None:
        os.environ.update(_traced)
    if item.get_closest_marker("tf") is not None:
        import_tensorflow()  # as edgepack does, which is faster than as tests may do
