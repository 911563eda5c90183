"""A pack: one model, compressed by one recipe for one target, with how that went."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from edgepack.records.shared import (
    Cost,
    ErrorRecord,
    Fit,
    Quality,
    Record,
    Signature,
    Status,
)


@dataclass(frozen=True, kw_only=True)
class Artefact(Record):
    """A model file. ``path`` is absolute under ``--json``, relative to its record on disk."""

    path: str
    sha256: str
    size_bytes: int
    gzip_bytes: int


@dataclass(frozen=True, kw_only=True)
class Skipped(Record):
    """A layer that a step left as it was, and why."""

    layer: str
    why: str


@dataclass(frozen=True, kw_only=True)
class StepRecord(Record):
    """What one step of a recipe changed and what it brought and cost.

    ``before`` and ``after`` are of float exports, and of the artefact after the last step, which
    is the export in the recipe's scheme: ``params``, ``macs``, ``size_bytes``, ``gzip_bytes``,
    ``arena_bytes``, ``latency_host_us`` (the median of a short run on one thread of the host
    that packed) and ``quality`` (the pack's metric, of the Keras model or the artefact).
    """

    name: str
    changed: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    seconds: float = 0.0
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Check(Record):
    """The artefact's outputs against the source model's, in the target's own runtime.

    ``mse`` and ``max_abs`` are in the model's real (dequantised) units, over all outputs.
    ``status`` is ``unchecked`` where that runtime cannot run on this host; ``why`` says so.
    """

    status: Status
    runtime: str
    samples: int = 0
    mse: float | None = None
    max_abs: float | None = None
    sqnr_db: float | None = None
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class PackMemory(Record):
    """The planned activation arena of one inference."""

    arena_bytes: int
    lower_bound_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Pack(Record):
    """One model, compressed by one recipe for one target.

    ``source_sha256`` is that of the file, or the folder's files, that was packed.
    """

    model: str
    target: str
    recipe: str
    seed: int
    versions: dict[str, str]
    status: Status
    key: str = ""
    source_sha256: str = ""
    error: ErrorRecord | None = None
    artefact: Artefact | None = None
    signature: Signature | None = None
    cost: Cost | None = None
    memory: PackMemory | None = None
    quality: Quality | None = None
    check: Check | None = None
    steps: tuple[StepRecord, ...] = ()
    fit: Fit | None = None
    notes: tuple[str, ...] = ()
    schema: Literal["edgepack.pack/1"] = "edgepack.pack/1"
