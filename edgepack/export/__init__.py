"""Keras to bytes: convert, calibrate, quantise, and compare in the target's own runtime."""

from edgepack.export.compare import compare
from edgepack.export.convert import to_float
from edgepack.export.quantise import Exported, export

__all__ = ["Exported", "compare", "export", "to_float"]
