"""What ``state.py`` says of a device, read with distrust: other types than its own are refused."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Annotated, Any

from annotated_types import Ge, Le, MaxLen
from pydantic import StringConstraints, TypeAdapter, ValidationError

Words = Annotated[str, MaxLen(1000)]
Version = Annotated[str, StringConstraints(pattern=r"^\d{1,3}\.\d{1,3}(\.\S*)?$", max_length=50)]
Count = Annotated[int, Ge(0), Le(1 << 53)]
Reading = Annotated[float, Ge(-1e9), Le(1e9)]


@dataclass(frozen=True, kw_only=True)
class About:
    """What does not change; None is what a device cannot say."""

    machine: Words
    bits: Count
    python: Version
    board: Words | None = None
    cpu: Words | None = None
    cores: Count | None = None
    core_speeds: dict[Words, Count] | None = None
    kernel: Words | None = None
    userland: Words | None = None
    os: Words | None = None
    libc: Words | None = None
    memory_bytes: Count | None = None


@dataclass(frozen=True, kw_only=True)
class Now:
    """What does change."""

    load: Annotated[list[Reading], MaxLen(3)] | None = None
    memory_free_bytes: Count | None = None
    governor: Words | None = None
    clock_khz: list[Count] | None = None
    temperature_c: dict[Words, Reading] | None = None
    throttled: Words | None = None
    throttle_count: Count | None = None
    cooling: dict[Words, Count] | None = None


@dataclass(frozen=True, kw_only=True)
class State:
    """Both."""

    device: About
    now: Now = field(default_factory=Now)


@cache
def _state() -> TypeAdapter[State]:
    return TypeAdapter(State)


def read(content: bytes) -> dict[str, dict[str, Any]] | None:
    """``{"device": …, "now": …}`` from what a device wrote; None where it is something else."""
    try:
        found = _state().validate_json(content, strict=True)
    except ValidationError:
        return None
    return {"device": _known(found.device), "now": _known(found.now)}


def _known(facts: Any) -> dict[str, Any]:
    """Only what this device could say."""
    return {key: value for key, value in asdict(facts).items() if value is not None}
