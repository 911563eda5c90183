"""The runner where none was named: Python's, or the native one on a device that Python fails."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgepack.errors import MeasureError
from edgepack.links.link import Link
from edgepack.runners.litert_native import LiteRTNative
from edgepack.runners.litert_python import AnyPython
from edgepack.runners.runner import Abilities, Burst
from edgepack.spec.device import Device
from edgepack.spec.target import Protocol

log = logging.getLogger(__name__)


class PythonElseNative:
    """A runtime in the device's Python; where there is none, LiteRT's C library without it.

    A device that names a runtime of its own (options.runtime) gets that one, or the error.
    """

    abilities = Abilities(name=f"{AnyPython.abilities.name} or litert-native")

    def __init__(self, link: Link, device: Device, place: str) -> None:
        self._link, self._device, self._place = link, device, place
        self._chosen: AnyPython | LiteRTNative = AnyPython(link, device, place)

    def prepare(self, model: Path) -> None:
        """Prepare the first runner that can be; see Runner. Its error is Python's."""
        try:
            self._chosen.prepare(model)
        except MeasureError as error:
            if not (self._device.options.runtime or "litert").startswith("litert"):
                raise
            log.info("%s: %s; trying litert-native", self._device.id, error.message)
            self._chosen = LiteRTNative(self._link, self._device, self._place)
            try:
                self._chosen.prepare(model)
            except MeasureError as reason:
                raise MeasureError(
                    f"{error.message}; without Python: {reason.message}", error.hint
                ) from reason

    def about(self) -> dict[str, Any]:
        """What the device says of itself; see Runner."""
        return self._chosen.about()

    def burst(
        self, inputs: Sequence[NDArray[Any]], protocol: Protocol, *, per_op: bool = False
    ) -> Burst:
        """Warm up, then measure; see Runner."""
        return self._chosen.burst(inputs, protocol, per_op=per_op)

    def predict(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs of stacked samples; see Runner."""
        return self._chosen.predict(inputs)
