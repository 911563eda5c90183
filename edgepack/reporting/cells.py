"""Which measurement belongs to which pack, and the cells recipe × device that follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.records import ErrorRecord, Measurement, Pack, ReportSection


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One recipe on one device; ``measurement`` is None where the pack was never measured."""

    recipe: str
    label: str
    pack: Pack | None
    measurement: Measurement | None

    @property
    def status(self) -> str:
        """The worst of both: a pack that failed, else how the measurement went."""
        if self.pack is not None and self.pack.status != "ok":
            return self.pack.status
        return self.measurement.status if self.measurement is not None else "not measured"

    @property
    def error(self) -> ErrorRecord | None:
        """Why it failed."""
        if self.measurement is not None and self.measurement.error is not None:
            return self.measurement.error
        return self.pack.error if self.pack is not None else None


class Owners:
    """Finds the packs of a measurement by its artefact's hash."""

    def __init__(self, packs: Sequence[Pack]) -> None:
        self._by_hash: dict[str, list[Pack]] = {}
        for pack in packs:
            if pack.artefact is not None:
                self._by_hash.setdefault(pack.artefact.sha256, []).append(pack)

    def of(self, measurement: Measurement) -> list[Pack]:
        """The packs whose artefact was measured; of equal ones, those of the named recipe.

        Two recipes, and one recipe on two targets, can give the same bytes.
        """
        same = self._by_hash.get(measurement.artefact_sha256, [])
        recipe = [pack for pack in same if pack.recipe == measurement.recipe]
        model = [pack for pack in recipe if pack.model == measurement.model]
        return model or recipe or same


def measured(
    packs: Sequence[Pack], measurements: Sequence[Measurement]
) -> tuple[list[list[Measurement]], list[Measurement]]:
    """The measurements of each pack, in their order, and those that belong to none."""
    owners = Owners(packs)
    places = {id(pack): index for index, pack in enumerate(packs)}
    mine: list[list[Measurement]] = [[] for _ in packs]
    strays = []
    for measurement in measurements:
        owning = owners.of(measurement)
        for pack in owning:
            mine[places[id(pack)]].append(measurement)
        if not owning:
            strays.append(measurement)
    return mine, strays


def device_labels(measurements: Sequence[Measurement]) -> dict[int, str]:
    """Labels by ``id(measurement)``: the device, with the runner where several ran on it."""
    runners: dict[str, set[str]] = {}
    for m in measurements:
        if m.runtime is not None:
            runners.setdefault(m.device.id, set()).add(m.runtime.runner)
    return {
        id(m): f"{m.device.id} ({m.runtime.runner})"
        if m.runtime is not None and len(runners[m.device.id]) > 1
        else m.device.id
        for m in measurements
    }


def cells(section: ReportSection) -> list[Cell]:
    """Every recipe × device of a section, measured or not, in the order of the packs."""
    labels = device_labels(section.measurements)
    mine, strays = measured(section.packs, section.measurements)
    found: list[Cell] = []
    for pack, its in zip(section.packs, mine, strict=True):
        for m in its:
            found.append(Cell(recipe=pack.recipe, label=labels[id(m)], pack=pack, measurement=m))
        if not its:
            found.append(Cell(recipe=pack.recipe, label="", pack=pack, measurement=None))
    for m in strays:
        name = m.recipe or m.model or m.artefact_sha256[:12]
        found.append(Cell(recipe=name, label=labels[id(m)], pack=None, measurement=m))
    return found
