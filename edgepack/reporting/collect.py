"""Packs and measurements → one report: a section for each model × target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType

from edgepack.records import Debug, ErrorRecord, Measurement, Operator, Pack, Report, ReportSection
from edgepack.reporting.cells import Owners
from edgepack.reporting.judge import judge
from edgepack.spec.target import Target

Place = tuple[str, str]


def build(
    packs: Sequence[Pack],
    measurements: Sequence[Measurement],
    operators: Mapping[str, Sequence[Operator]],
    targets: Sequence[Target],
    *,
    debugs: Mapping[str, Debug] = MappingProxyType({}),
    title: str = "edgepack report",
    versions: Mapping[str, str] | None = None,
    command: str = "",
    problems: Sequence[ErrorRecord] = (),
    cautions: Sequence[str] = (),
    created_at: str | None = None,
) -> Report:
    """The report of one output folder.

    ``operators`` maps an artefact's SHA-256 to its per-layer table, as ``inspect`` reads it,
    ``debugs`` to what ``debug`` found of it. Packs stand from the baseline to the smallest file. A
    target without a spec in ``targets`` is shown by its id and not judged. ``created_at`` is
    ISO 8601 in UTC, now where None.
    """
    specs = {target.id: target for target in targets}
    places: dict[Place, tuple[list[Pack], list[Measurement]]] = {}
    for pack in packs:
        places.setdefault((pack.model, pack.target), ([], []))[0].append(pack)
    owners = Owners(packs)
    for measurement in measurements:
        places.setdefault(_place(measurement, owners), ([], []))[1].append(measurement)
    return Report(
        title=title,
        created_at=created_at or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        versions=dict(versions or {}),
        command=command,
        problems=tuple(problems),
        cautions=tuple(cautions),
        sections=tuple(
            _section(place, specs.get(place[1]), found[0], found[1], operators, debugs)
            for place, found in places.items()
        ),
    )


def baseline(packs: Sequence[Pack]) -> str | None:
    """The recipe that others are compared with: float32 if it is there, else the first made."""
    made = [pack.recipe for pack in packs if pack.status == "ok"]
    return "float32" if "float32" in made else made[0] if made else None


def _place(measurement: Measurement, owners: Owners) -> Place:
    """The section of a measurement: its pack's, that of the device's own target first."""
    owning = owners.of(measurement)
    for pack in owning:
        if pack.target == measurement.device.target:
            return pack.model, pack.target
    if owning:
        return owning[0].model, owning[0].target
    model = measurement.model or measurement.artefact_sha256[:12]
    return model, measurement.device.target


def _falling(pack: Pack) -> float:
    """Orders packs from the largest file to the smallest, then those without one."""
    return -pack.artefact.size_bytes if pack.artefact is not None else 1


def _section(
    place: Place,
    target: Target | None,
    packs: list[Pack],
    measurements: list[Measurement],
    operators: Mapping[str, Sequence[Operator]],
    debugs: Mapping[str, Debug],
) -> ReportSection:
    first = baseline(packs)
    packs = sorted(packs, key=lambda pack: (pack.recipe != first, _falling(pack)))
    return ReportSection(
        model=place[0],
        target=place[1],
        target_name=target.name if target is not None else place[1],
        baseline=first,
        packs=tuple(packs),
        measurements=tuple(measurements),
        operators={
            pack.recipe: tuple(operators[pack.artefact.sha256])
            for pack in packs
            if pack.artefact is not None and pack.artefact.sha256 in operators
        },
        debugs={
            pack.recipe: debugs[pack.artefact.sha256]
            for pack in packs
            if pack.artefact is not None and pack.artefact.sha256 in debugs
        },
        verdicts=judge(target, packs, measurements) if target is not None else (),
    )
