"""A target: a *kind* of hardware, what it can run, how much it holds, which limits it must meet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import MinLen

from edgepack.spec.fields import FORBID, Count, Fraction, Natural, NotNegative, Positive, Text


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What a model may use, in KiB; None where the target has enough not to matter."""

    __pydantic_config__ = FORBID
    flash_kib: Positive | None = None
    ram_kib: Positive | None = None


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What every pack and measurement on the target is judged by. None: not judged."""

    __pydantic_config__ = FORBID
    max_latency_ms: Positive | None = None
    max_ram_kib: Positive | None = None
    max_flash_kib: Positive | None = None
    min_accuracy: Fraction | None = None
    max_accuracy_drop: Fraction | None = None


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a measurement on the target is taken.

    Warm-up and measured runs each end when both the count and the seconds are reached;
    ``max_seconds`` ends the measured runs of a model too slow for ``runs``. The warm-up is
    repeated until the speed has settled, or until ``warmup_max_seconds`` are over. ``threads`` 0
    means one thread per core of the target, or of ``cores``: the cores to run on, by number, or
    ``"big"`` for the fastest kind; none is the system's choice. A device hotter than
    ``max_start_c`` is left to cool, for ``cooldown_seconds`` at most. docs/measuring.md has the
    reasons.
    """

    __pydantic_config__ = FORBID
    warmup_runs: Natural = 10
    warmup_seconds: NotNegative = 0.5
    warmup_max_seconds: NotNegative = 5.0
    runs: Count = 100
    min_seconds: NotNegative = 1.0
    max_seconds: Positive = 60.0
    threads: Natural = 1
    cores: tuple[Natural, ...] | Literal["big"] = ()
    max_start_c: Positive | None = None
    cooldown_seconds: NotNegative = 300.0
    golden_samples: Count = 8

    def __post_init__(self) -> None:
        if self.max_seconds < self.min_seconds:
            raise ValueError(
                f"max_seconds {self.max_seconds:g} is less than min_seconds {self.min_seconds:g}"
            )


@dataclass(frozen=True, kw_only=True)
class Target:
    """One target; the TOML file's stem is ``id``. ``sources`` maps each figure to a URL.

    ``cores`` is 1 where nothing is said of them. ``core`` names the processor core, or the chip.
    ``channels`` is the multiple of channels that its kernels like (4 where CMSIS-NN takes four
    8-bit values a word); passes that choose a number of channels round to it.
    """

    __pydantic_config__ = FORBID
    id: str
    name: Text
    kind: Literal["linux", "android", "mcu"]
    arch: Literal[
        "x86_64",
        "aarch64",
        "armv7l",
        "armv6-m",
        "armv7-m",
        "armv7e-m",
        "armv8-m",
        "armv8.1-m",
        "xtensa",
        "riscv32",
    ]
    runtimes: Annotated[tuple[Text, ...], MinLen(1)]
    description: str = ""
    core: str = ""
    cores: Count = 1
    clock_mhz: Positive | None = None
    channels: Count = 1
    memory: Memory = field(default_factory=Memory)
    default_recipe: Text = "int8"
    measure: Protocol = field(default_factory=Protocol)
    limits: Limits = field(default_factory=Limits)
    sources: dict[str, str] = field(default_factory=dict)
