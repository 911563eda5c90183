"""measure: (Pack, device) → Measurement, cell by cell, each stored as soon as it is known."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgepack.errors import DataError, SpecError
from edgepack.measuring import take
from edgepack.model.data import Data, open_data
from edgepack.records import ErrorRecord, Measurement, Quality
from edgepack.runners.runner import place_of, sessions
from edgepack.spec.device import Device
from edgepack.spec.target import Protocol, Target
from edgepack.workflow import ask, fleet, store
from edgepack.workflow.also import Wanted, also_of, rival_of
from edgepack.workflow.artefact import CHUNK, Arrays, to_stored
from edgepack.workflow.golden import Goldens, Subject
from edgepack.workflow.job import metric_for
from edgepack.workflow.keys import stage_key, versions
from edgepack.workflow.subjects import Spoiled, subjects

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What ``measure`` was asked to do: a file or an output folder, on devices."""

    source: Path
    devices: tuple[Device, ...]
    runner: str | None = None
    evaluation: Data | None = None
    inputs: Path | None = None
    seed: int = 0
    allow_code: bool = False
    targets_folders: tuple[Path, ...] = ()
    resume: bool = False
    wanted: Wanted = field(default_factory=Wanted)

    @property
    def out(self) -> Path:
        """The output folder that is measured, or that the file belongs to."""
        owners = [] if self.source.is_dir() else self.packs()
        return (store.folder_of(owners[0]) if owners else None) or self.source

    def packs(self) -> list[store.StoredPack]:
        """The packs that are to be measured, as they lie on disk now; none for a bare file."""
        if self.source.is_dir():
            found, _ = store.read_packs(self.source)
            return [stored for stored in found if stored.pack.artefact is not None]
        owner = store.pack_of(self.source)
        return [owner] if owner is not None else []

    def damaged(self) -> list[SpecError]:
        """What is wrong with each pack's record that cannot be read."""
        return store.read_packs(self.source)[1] if self.source.is_dir() else []


def request(
    source: Path,
    *,
    devices: Sequence[str],
    runner: str | None = None,
    evaluation: str | None = None,
    inputs: Path | None = None,
    seed: int = 0,
    allow_code: bool = False,
    devices_folders: Sequence[Path] = (),
    targets_folders: Sequence[Path] = (),
    resume: bool = False,
    wanted: Wanted | None = None,
) -> Request:
    """A request from ids or paths. Raises SpecError or DataError for what is wrong with them."""
    place_of(runner)  # a misspelt one, before any work
    data = ask.dataset(evaluation)
    return Request(
        source=source,
        devices=ask.devices(devices, devices_folders),
        runner=runner,
        evaluation=open_data(data, allow_code=allow_code) if data else None,
        inputs=inputs,
        seed=seed,
        allow_code=allow_code,
        targets_folders=tuple(targets_folders),
        resume=resume,
        wanted=wanted or Wanted(),
    )


def measure_all(asked: Request) -> Iterator[Measurement]:
    """Each Measurement, device by device. Raises before any work for what concerns all cells.

    Devices run at once, as far as they are machines of their own; see ``fleet``. A cell that fails
    has ``error``. Ctrl-C yields the interrupted cells, then KeyboardInterrupt. A pack whose record
    cannot be read raises SpecError after all others were measured.
    """
    damaged = asked.damaged()
    rival_of(asked.wanted)  # one that is no model, before any work
    chosen = subjects(asked.source, asked.packs(), damaged)
    targets = {
        device.id: store.find_target(asked.out, device.target, asked.targets_folders)
        for device in asked.devices
    }
    goldens = Goldens(asked.inputs, asked.seed)

    def work(device: Device, reached: Callable[[], Device]) -> Iterator[Measurement]:
        for subject in chosen:
            if isinstance(subject, Spoiled):
                found = _failed(subject, device)
            else:
                found = _one(asked, subject, device, reached, targets[device.id], goldens)
            yield found
            if found.status == "interrupted":
                raise KeyboardInterrupt

    yield from fleet.each(asked.devices, len(chosen), work)
    if damaged:
        raise damaged[0]


def _failed(spoiled: Spoiled, device: Device) -> Measurement:
    """The record of a pack that cannot be measured; the others go on."""
    pack = spoiled.stored.pack
    found = replace(
        take.blank(
            device,
            artefact_sha256=pack.artefact.sha256 if pack.artefact else "",
            pack_sha256=spoiled.stored.sha256,
            model=pack.model,
            recipe=pack.recipe,
            versions=versions(),
        ),
        status="failed",
        error=ErrorRecord.of(spoiled.error),
    )
    store.write_measurement(spoiled.stored, found)
    return found


def _protocol(target: Target) -> Protocol:
    """The target's protocol, with the thread count spelled out; the device counts chosen cores."""
    if target.measure.cores:
        return target.measure
    return replace(target.measure, threads=target.measure.threads or target.cores)


def _one(
    asked: Request,
    subject: Subject,
    device: Device,
    reached: Callable[[], Device],
    target: Target,
    goldens: Goldens,
) -> Measurement:
    """One cell; ``reached`` gives the device as it can be reached just now."""
    protocol = _protocol(target)
    pack = subject.stored.pack if subject.stored else None
    rival = rival_of(asked.wanted)
    key = stage_key(
        "measurement",
        artefact=subject.digest,
        device=asdict(device),
        runner=asked.runner,
        protocol=asdict(protocol),
        evaluation=asked.evaluation.digest if asked.evaluation else None,
        metric=asked.evaluation.spec.metric if asked.evaluation else None,
        **asked.wanted.key(rival),
    )
    if asked.resume and subject.stored:
        for kept in store.measurements_of(subject.stored, device.id):
            if kept.key == key and kept.status == "ok":
                return kept
    blank = take.blank(
        device,
        artefact_sha256=subject.digest,
        pack_sha256=subject.stored.sha256 if subject.stored else None,
        key=key,
        model=pack.model if pack else subject.path.stem,
        recipe=pack.recipe if pack else "",
        versions=versions(),
    )
    golden, notes = goldens.of(subject, target)
    paths = [subject.path, *([rival.path] if rival else [])]
    found = take.take(
        lambda: sessions(reached(), paths, asked.runner),
        replace(blank, notes=notes),
        golden,
        protocol,
        _evaluation(asked, subject) if asked.evaluation else None,
        also_of(
            asked.wanted, rival, subject, golden, device=device, target=target, seed=asked.seed
        ),
    )
    if subject.stored is not None:
        store.write_measurement(subject.stored, found)
    return found


def _evaluation(asked: Request, subject: Subject) -> take.Evaluation:
    """Accuracy on the device over the evaluation set, in chunks."""
    data = asked.evaluation
    if data is None:
        raise DataError("no evaluation data", "give --evaluation")
    pack = subject.stored.pack if subject.stored else None
    metric = metric_for(data, subject.signature.outputs, allow_code=asked.allow_code)
    known = pack.quality if pack is not None else None
    if known is not None and (known.data, known.metric) != (data.digest, metric.name):
        known = None

    def chunks() -> Iterator[tuple[Arrays, NDArray[Any] | None]]:
        for batch in data.batches(CHUNK):
            yield to_stored(list(batch.x), subject.signature.inputs), batch.truth

    return take.Evaluation(
        chunks=chunks(),
        metric=metric,
        quality=known or Quality(metric=metric.name, data=data.digest),
    )
