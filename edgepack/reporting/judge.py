"""Limits against what was found: one verdict for each limit × pack × device, as a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.records import Measurement, Pack, Verdict
from edgepack.reporting import units
from edgepack.reporting.cells import device_labels, measured
from edgepack.spec.target import Target

FLOAT_NOISE = 1e-9
Labelled = list[tuple[str, Measurement]]


@dataclass(frozen=True, kw_only=True)
class _Finding:
    """What was found in the limit's own unit, or why nothing was."""

    device: str | None
    emulated: bool = False
    value: float | None = None
    why: str = ""


def judge(
    target: Target, packs: Sequence[Pack], measurements: Sequence[Measurement]
) -> tuple[Verdict, ...]:
    """Every limit of ``target`` against its packs and their measurements on its devices.

    Latency is judged by p90 in ms; RAM by the model's measured share of the peak, on a
    microcontroller by the arena (measured, else planned); flash by the file's size; accuracy
    by the device's figure, else the host's, and its drop against the Keras model's, else the
    float32 pack's. Not judged: a measurement on a device of another target, and the latency
    of an emulated device, which says nothing about the hardware's.
    """
    mine = [pack for pack in packs if pack.target == target.id]
    here = [m for m in measurements if m.device.target == target.id]
    limits = target.limits
    verdicts: list[Verdict] = []
    several = len({pack.model for pack in mine}) > 1
    labels = device_labels(here)
    for pack, taken in zip(mine, measured(mine, here)[0], strict=True):
        its = [(labels[id(m)], m) for m in taken]
        name = f"{pack.model} {pack.recipe}" if several else pack.recipe
        shared = _Judged(target=target.id, recipe=pack.recipe, name=name)
        if limits.max_latency_ms is not None:
            found = _latency(pack, its)
            verdicts += shared.below("max_latency_ms", "p90", "ms", limits.max_latency_ms, found)
        if limits.max_ram_kib is not None:
            what = "arena" if target.kind == "mcu" else "model's memory"
            found = _ram(pack, its, target.kind == "mcu")
            verdicts += shared.below("max_ram_kib", what, "KiB", limits.max_ram_kib, found)
        if limits.max_flash_kib is not None:
            found = _flash(pack)
            verdicts += shared.below("max_flash_kib", "file", "KiB", limits.max_flash_kib, found)
        if limits.min_accuracy is not None:
            verdicts += shared.accuracy(limits.min_accuracy, pack, its)
        if limits.max_accuracy_drop is not None:
            verdicts += shared.drop(limits.max_accuracy_drop, pack, its, mine)
    return tuple(verdicts)


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """The pack that is judged: writes its verdicts."""

    target: str
    recipe: str
    name: str

    def below(
        self, limit: str, what: str, unit: str, allowed: float, findings: list[_Finding]
    ) -> list[Verdict]:
        return [self._verdict(limit, what, unit, allowed, finding, 1) for finding in findings]

    def accuracy(self, allowed: float, pack: Pack, its: Labelled) -> list[Verdict]:
        metric = _metric(pack, its)
        if metric in units.LOWER_IS_BETTER:
            why = f"not judged: {metric} is an error, lower is better"
            findings = [_Finding(device=None, why=why)]
        else:
            findings = _accuracy(pack, its)
        return [
            self._verdict("min_accuracy", metric, _unit(metric), allowed, finding, -1)
            for finding in findings
        ]

    def drop(self, allowed: float, pack: Pack, its: Labelled, packs: list[Pack]) -> list[Verdict]:
        metric = _metric(pack, its)
        reference, whose = _reference(pack, metric, packs)
        findings = [
            _Finding(
                device=finding.device,
                emulated=finding.emulated,
                value=units.loss(metric, reference, finding.value),
                why=finding.why if finding.value is None else "not measured: no reference",
            )
            for finding in _accuracy(pack, its)
        ]
        what = f"{metric} {'rise' if metric in units.LOWER_IS_BETTER else 'drop'} from {whose}"
        unit = "points" if metric in units.SHARES else ""
        return [
            self._verdict("max_accuracy_drop", what, unit, allowed, finding, 1)
            for finding in findings
        ]

    def _verdict(
        self, limit: str, what: str, unit: str, allowed: float, finding: _Finding, sign: int
    ) -> Verdict:
        value = finding.value if units.known(finding.value) else None
        met = None if value is None else sign * (value - allowed) <= FLOAT_NOISE
        factor = 100 if unit in ("%", "points") else 1
        place = f" on {finding.device}" if finding.device else ""
        place += " (emulated)" if finding.emulated else ""
        bound = "at least " if sign < 0 else ""
        if value is None:
            allowed_text = units.digits(allowed * factor)
            found_text = f"{what} {finding.why or 'not measured'}"
        else:
            shown, allowed_text = units.apart(value * factor, allowed * factor)
            if met:
                shown, allowed_text = units.digits(value * factor), units.digits(allowed * factor)
            found_text = f"{what} {_with_unit(shown, unit)}"
        allowed_text = bound + _with_unit(allowed_text, unit)
        return Verdict(
            limit=limit,
            target=self.target,
            recipe=self.recipe,
            device=finding.device,
            allowed=allowed,
            found=value,
            met=met,
            sentence=f"{self.name}{place}: {found_text}, limit {allowed_text}",
        )


def _with_unit(number: str, unit: str) -> str:
    return f"{number} {'point' if (number, unit) == ('1', 'points') else unit}".rstrip()


def _unfound(status: str) -> str:
    return "not measured" if status == "ok" else f"not measured ({status})"


def _latency(pack: Pack, its: Labelled) -> list[_Finding]:
    return [
        _Finding(
            device=label,
            emulated=m.device.emulated,
            value=None if m.latency_us is None or m.device.emulated else m.latency_us.p90 / 1e3,
            why="not judged" if m.latency_us is not None else _unfound(m.status),
        )
        for label, m in its
    ] or [_Finding(device=None, why=_unfound(pack.status))]


def _ram(pack: Pack, its: Labelled, mcu: bool) -> list[_Finding]:
    found = []
    for label, m in its:
        memory = m.memory
        used = None if memory is None else memory.arena_bytes if mcu else memory.model_bytes
        if used is None and mcu and pack.memory is not None:
            continue
        found.append(
            _Finding(
                device=label,
                emulated=m.device.emulated,
                value=None if used is None else used / 1024,
                why=_unfound(m.status),
            )
        )
    if not found and mcu and pack.memory is not None:
        return [_Finding(device=None, value=pack.memory.arena_bytes / 1024)]
    return found or [_Finding(device=None, why=_unfound(pack.status))]


def _flash(pack: Pack) -> list[_Finding]:
    value = pack.artefact.size_bytes / 1024 if pack.artefact is not None else None
    return [_Finding(device=None, value=value, why=_unfound(pack.status))]


def _accuracy(pack: Pack, its: Labelled) -> list[_Finding]:
    on_devices = [
        _Finding(device=label, emulated=m.device.emulated, value=m.quality.device)
        for label, m in its
        if m.quality is not None and units.known(m.quality.device)
    ]
    host = pack.quality.host if pack.quality is not None else None
    return on_devices or [_Finding(device=None, value=host, why=_unfound(pack.status))]


def _metric(pack: Pack, its: Labelled) -> str:
    qualities = [pack.quality, *(m.quality for _, m in its)]
    return next((quality.metric for quality in qualities if quality is not None), "accuracy")


def _unit(metric: str) -> str:
    return "%" if metric in units.SHARES else ""


def _reference(pack: Pack, metric: str, packs: list[Pack]) -> tuple[float | None, str]:
    """The figure that a drop counts from, and whose it is."""
    own = pack.quality.reference if pack.quality is not None else None
    if units.known(own):
        return own, "Keras"
    for other in packs:
        quality = other.quality
        if other.model == pack.model and other.recipe == "float32" and quality is not None:
            return (quality.host if quality.metric == metric else None), "float32"
    return None, "the reference"
