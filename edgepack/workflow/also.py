"""What ``measure`` was asked to take beside the plain burst: threads, a rival, a sustained load."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.errors import SpecError
from edgepack.files import exists
from edgepack.graph.facts import facts
from edgepack.measuring.compare import Rival
from edgepack.measuring.meter import CommandMeter
from edgepack.measuring.take import Also, Golden
from edgepack.spec.device import Device
from edgepack.spec.target import Target
from edgepack.workflow import store
from edgepack.workflow.golden import Subject, golden_of

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
MOST_SECONDS = 24 * 3600.0
MOST_THREADS = 1024


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The parts of ``measure``'s command line that ask for more than the plain burst."""

    threads: tuple[int, ...] = ()
    sustain_seconds: float = 0.0
    against: Path | None = None
    per_op: bool = False

    def key(self, rival: Subject | None) -> dict[str, Any]:
        """What of it a result depends on, for its stage key; nothing where nothing was asked."""
        asked: dict[str, Any] = {
            "threads": list(self.threads),
            "sustain_seconds": self.sustain_seconds,
            "against": rival.digest if rival else None,
            "per_op": self.per_op,
        }
        return {name: value for name, value in asked.items() if value}


def wanted(
    *,
    threads: str | None = None,
    sustain: str | None = None,
    against: Path | None = None,
    per_op: bool = False,
) -> Wanted:
    """The options' texts as values. Raises SpecError for what means nothing."""
    if against is not None and not exists(against):
        raise SpecError(f"--against {against}: no such file", "give another .tflite file")
    return Wanted(
        threads=_counts(threads) if threads is not None else (),
        sustain_seconds=_seconds(sustain) if sustain is not None else 0.0,
        against=against,
        per_op=per_op,
    )


def rival_of(asked: Wanted) -> Subject | None:
    """The other model, with its pack where it has one. Raises ModelError."""
    if asked.against is None:
        return None
    known = facts(asked.against)
    return Subject(
        path=asked.against,
        signature=known.signatures[0],
        digest=known.sha256,
        stored=store.pack_of(asked.against),
    )


def also_of(
    asked: Wanted,
    rival: Subject | None,
    subject: Subject,
    golden: Golden,
    *,
    device: Device,
    target: Target,
    seed: int,
) -> Also:
    """What ``take`` is to do beside the burst. The rival gets the same inputs where it can."""
    opponent = None
    if rival is not None:
        inputs = golden.inputs
        if not _alike(subject, rival):
            count = target.measure.golden_samples
            inputs = golden_of(rival, target, given=None, count=count, seed=seed)[0].inputs
        pack = rival.stored.pack if rival.stored else None
        opponent = Rival(
            artefact_sha256=rival.digest,
            model=pack.model if pack else rival.path.stem,
            recipe=pack.recipe if pack else "",
            inputs=inputs,
        )
    return Also(
        threads=asked.threads,
        sustain_seconds=asked.sustain_seconds,
        rival=opponent,
        per_op=asked.per_op,
        meter=CommandMeter(device.options.meter) if device.options.meter else None,
    )


def _alike(one: Subject, other: Subject) -> bool:
    """Whether two models take the same stored inputs."""

    def kinds(subject: Subject) -> Sequence[object]:
        return [
            (spec.shape, spec.dtype, spec.scale, spec.zero_point)
            for spec in subject.signature.inputs
        ]

    return kinds(one) == kinds(other)


def _counts(text: str) -> tuple[int, ...]:
    """``1,2,4`` as rising counts of threads, each once."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch("[0-9]{1,4}", part) for part in parts):
        raise SpecError(f"--threads '{text}' is not like 1,2,4", "give counts with commas")
    counts = sorted({int(part) for part in parts})
    if counts[0] < 1 or counts[-1] > MOST_THREADS:
        raise SpecError(f"--threads '{text}': counts go from 1 to {MOST_THREADS}")
    return tuple(counts)


def _seconds(text: str) -> float:
    """``90``, ``90s``, ``10m`` or ``1h`` in seconds."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smh]?)", text.strip())
    if found is None:
        raise SpecError(f"--sustain '{text}' is no time", "say 90s, 10m or 1h")
    seconds = float(found[1]) * UNITS[found[2]]
    if not 1 <= seconds <= MOST_SECONDS:
        raise SpecError(f"--sustain '{text}': a sustained load takes from 1 s to 24 h")
    return seconds
