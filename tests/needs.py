"""Real components that a test needs: missing ones fail in CI and skip elsewhere."""

from __future__ import annotations

import os

import pytest


def needs(there: bool, what: str) -> None:
    """Go on where the component is there; else fail in CI, or skip saying what to install."""
    if there:
        return
    if os.environ.get("CI"):
        pytest.fail(f"missing in CI: {what}")
    pytest.skip(f"to run this test: {what}")
