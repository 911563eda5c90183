"""Stage keys: a canonical hash of what a stage's result depends on. Another key: stale."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from typing import Any

from edgepack.files import sha256, strict

PACKAGES = ("edgepack", "tensorflow", "keras", "ai-edge-litert", "litert-quantizer", "numpy")


def stage_key(stage: str, **inputs: Any) -> str:
    """The key of ``stage`` for plain ``inputs``; the same whatever their order."""
    text = json.dumps(
        strict({"stage": stage, **inputs}), sort_keys=True, allow_nan=False, separators=(",", ":")
    )
    return sha256(text.encode())[:32]


def versions() -> dict[str, str]:
    """The versions of what a result depends on, without importing any of it."""
    found = {"python": python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
