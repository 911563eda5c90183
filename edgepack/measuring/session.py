"""What a measurement needs of a runner; ``edgepack.runners.runner`` says what each part means."""

# ruff: noqa: D102 - the fields of Burst are described where they are made

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from edgepack.errors import EdgepackError
from edgepack.records import MeasuredMemory, OperatorTimes, RuntimeRecord
from edgepack.spec import target

Arrays = Sequence[NDArray[Any]]


class Burst(Protocol):
    """What a runner brings home from one burst."""

    @property
    def runtime(self) -> RuntimeRecord | None: ...
    @property
    def samples_us(self) -> tuple[float, ...]: ...
    @property
    def warmup_runs(self) -> int: ...
    @property
    def settled(self) -> bool | None: ...
    @property
    def init_us(self) -> float | None: ...
    @property
    def first_us(self) -> float | None: ...
    @property
    def memory(self) -> MeasuredMemory | None: ...
    @property
    def operators(self) -> OperatorTimes | None: ...
    @property
    def outputs(self) -> tuple[NDArray[Any], ...]: ...
    @property
    def before(self) -> dict[str, Any]: ...
    @property
    def after(self) -> dict[str, Any]: ...
    @property
    def failure(self) -> EdgepackError | None: ...
    @property
    def refused(self) -> bool: ...


class Session(Protocol):
    """A runner with a model on the device."""

    def about(self) -> dict[str, Any]:
        """What the device says of itself."""
        ...

    def burst(self, inputs: Arrays, protocol: target.Protocol, *, per_op: bool = False) -> Burst:
        """Warm up and measure."""
        ...

    def predict(self, inputs: Arrays) -> list[NDArray[Any]]:
        """The outputs of stacked samples."""
        ...
