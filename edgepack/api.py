"""The verbs for Python: typed, with ids, paths or specs, one thing at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from edgepack.errors import EdgepackError, FitError
from edgepack.graph.facts import facts
from edgepack.records import Debug, Facts, Measurement, Pack, Report
from edgepack.spec.data import Dataset
from edgepack.spec.library import find
from edgepack.spec.target import Target
from edgepack.workflow import ask
from edgepack.workflow.debug import Question, diagnose
from edgepack.workflow.job import Trust
from edgepack.workflow.limit import limit as parsed_limit
from edgepack.workflow.measure import measure_all, request
from edgepack.workflow.pack import pack_all
from edgepack.workflow.report import build


def pack(
    model: str | Path,
    *,
    target: str,
    recipe: str | None = None,
    out: str | Path,
    calibration: str | None = None,
    evaluation: str | None = None,
    train: str | None = None,
    seed: int = 0,
    trust: Trust | None = None,
    folders: Sequence[Path] = (),
    shapes: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
) -> Pack:
    """Make one model small and fast for one target by one recipe.

    ``target``, ``recipe`` and the data descriptions are ids or paths of TOML files; ``recipe``
    None is the target's own. ``shapes`` gives the sizes that the model leaves open, by input name.
    Everything is stored in ``out``. Raises the EdgepackError that the
    command would report: SpecError, ModelError, FitError, DataError.
    """
    job = ask.job(
        Path(model),
        targets=[target],
        recipes=[recipe] if recipe else [],
        calibration=calibration,
        evaluation=evaluation,
        train=train,
        out=Path(out),
        seed=seed,
        trust=trust,
        folders=folders,
        shapes=shapes,
    )
    made = next(pack_all(job))
    if made.error is not None:
        raise _error(made)
    return made


def measure(
    artefact: Pack | str | Path,
    device: str,
    *,
    runner: str | None = None,
    evaluation: str | None = None,
    inputs: str | Path | None = None,
    seed: int = 0,
    allow_code: bool = False,
) -> Measurement:
    """Run one model on one device: latency, memory, agreement with the host, accuracy.

    ``artefact`` is a pack, or a ``.tflite`` file; ``device`` an id or a path of a TOML file.
    A measurement that failed part of the way is returned with its ``error``; what keeps it
    from starting at all raises.
    """
    path = (
        Path(artefact.artefact.path) if isinstance(artefact, Pack) and artefact.artefact else None
    )
    if path is None and isinstance(artefact, Pack):
        raise FitError(f"the pack {artefact.recipe} for {artefact.target} has no artefact")
    asked = request(
        path or Path(str(artefact)),
        devices=[device],
        runner=runner,
        evaluation=evaluation,
        inputs=Path(inputs) if inputs else None,
        seed=seed,
        allow_code=allow_code,
    )
    return next(measure_all(asked))


def inspect(file: str | Path, target: Target | None = None) -> Facts:
    """What a flatbuffer is, and with ``target`` whether it fits. Raises ModelError."""
    return facts(Path(file), target)


def debug(
    model: str | Path,
    file: str | Path,
    *,
    calibration: str,
    evaluation: str | None = None,
    limit: str | None = None,
    target: str | None = None,
    out: str | Path | None = None,
    samples: int = 64,
    trust: Trust | None = None,
    folders: Sequence[Path] = (),
    shapes: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
) -> Debug:
    """Where an exported ``file`` departs from the ``model`` it was made of, layer by layer.

    With ``limit`` (``accuracy=0.5pt``) and ``evaluation`` the mixed scheme that meets it is looked
    for; ``out`` is where that file and its recipe go. A limit that nothing meets does not raise:
    see ``rescued.met``. Raises SpecError, ModelError or DataError.
    """
    return diagnose(
        Question(
            model=Path(model),
            file=Path(file),
            calibration=find(Dataset, calibration),
            evaluation=ask.dataset(evaluation),
            limit=parsed_limit(limit) if limit is not None else None,
            target=find(Target, target, folders) if target is not None else None,
            out=Path(out) if out is not None else None,
            samples=samples,
            trust=trust or Trust(),
            shapes=shapes,
        )
    )


def report(folder: str | Path) -> Report:
    """All that an output folder holds, judged. Render it with ``edgepack.reporting``."""
    return build(Path(folder))


def _error(pack: Pack) -> EdgepackError:
    """The error that a failed cell was stored with."""
    found = pack.error
    code, message, hint = (found.code, found.message, found.hint) if found else (70, "failed", "")
    kinds = {kind.code: kind for kind in EdgepackError.__subclasses__()}
    return kinds.get(code, EdgepackError)(message, hint)
