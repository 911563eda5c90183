"""edgepack: trained Keras models, made small and fast for a target, proved on the device.

    import edgepack as ep

    pack = ep.pack("model.keras", target="rpi4-64", recipe="float16", out="out")
    found = ep.measure(pack, "this-machine")
    page = ep.report("out")

Every function and type here is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgepack.api import debug, inspect, measure, pack, report
    from edgepack.errors import EdgepackError
    from edgepack.records import Debug, Facts, Measurement, Pack, Report
    from edgepack.spec.data import Dataset
    from edgepack.spec.device import Device
    from edgepack.spec.recipe import Recipe
    from edgepack.spec.target import Target
    from edgepack.workflow.job import Trust

__version__ = "0.1.0"
__all__ = [
    "Dataset",
    "Debug",
    "Device",
    "EdgepackError",
    "Facts",
    "Measurement",
    "Pack",
    "Recipe",
    "Report",
    "Target",
    "Trust",
    "debug",
    "inspect",
    "measure",
    "pack",
    "report",
]
_HOMES = {
    "debug": "edgepack.api",
    "inspect": "edgepack.api",
    "measure": "edgepack.api",
    "pack": "edgepack.api",
    "report": "edgepack.api",
    "EdgepackError": "edgepack.errors",
    "Debug": "edgepack.records",
    "Facts": "edgepack.records",
    "Measurement": "edgepack.records",
    "Pack": "edgepack.records",
    "Report": "edgepack.records",
    "Dataset": "edgepack.spec.data",
    "Device": "edgepack.spec.device",
    "Recipe": "edgepack.spec.recipe",
    "Target": "edgepack.spec.target",
    "Trust": "edgepack.workflow.job",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgepack' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
