"""Finished steps on disk: ``candidates/KEY/`` in the output folder holds what one step made.

A key is that of the whole chain of steps so far, so recipes that begin alike share their first
steps. ``candidate.json`` is written last and names the other files' digests: what is not whole
is not there. While a step trains, ``training-*.ckpt`` is what it goes on from.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from edgepack.errors import ModelError
from edgepack.files import sha256, to_json, write_bytes, write_text
from edgepack.model.training import discard
from edgepack.passes import saved
from edgepack.passes.candidate import Candidate
from edgepack.records import StepRecord, from_dict, to_dict
from edgepack.workflow.figures import Figures
from edgepack.workflow.job import Trust

log = logging.getLogger(__name__)


class Shelf:
    """Candidates below ``folder``: those that this run made and, with ``resume``, all others."""

    def __init__(self, folder: Path, trust: Trust, *, resume: bool) -> None:
        self.folder, self.trust, self.resume = folder, trust, resume
        self._made: set[str] = set()

    def checkpoint(self, key: str) -> Path:
        """Where the step that will have that key keeps its training."""
        return self.folder / key / "training.ckpt"

    def longest(self, keys: Sequence[str]) -> int:
        """How many of a chain's steps are finished."""
        done = [place for place, key in enumerate(keys, 1) if self._steps(key) is not None]
        return max(done, default=0)

    def put(self, key: str, candidate: Candidate) -> None:
        """Keep a step's result, and forget its training."""
        place, digests = self.folder / key, {}
        for name, content in saved.content(candidate).items():
            write_bytes(place / name, content)
            digests[name] = sha256(content)
        steps = [to_dict(step) for step in candidate.steps]
        write_text(place / "candidate.json", to_json({"files": digests, "steps": steps}))
        self._made.add(key)
        discard(self.checkpoint(key))

    def get(self, key: str) -> Candidate:
        """What ``put`` kept. Raises ModelError where that is not there."""
        steps = self._steps(key)
        if steps is None:
            raise ModelError(f"{self.folder / key}: no finished step", "pack again")
        found = saved.load(
            self.folder / key,
            allow_code=self.trust.custom_objects,
            allow_lambda=self.trust.lambdas,
        )
        return replace(found, steps=steps)

    def _steps(self, key: str) -> tuple[StepRecord, ...] | None:
        """The records of a chain's steps; None where it is not there, not whole, or not wanted."""
        record = self.folder / key / "candidate.json"
        if not (self.resume or key in self._made) or not record.is_file():
            return None
        try:
            found = json.loads(record.read_bytes())
            whole = all(
                sha256((record.parent / name).read_bytes()) == found["files"][name]
                for name in ("model.keras", "constraints.npz")
            )
            steps = tuple(from_dict(StepRecord, plain) for plain in found["steps"])
        except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
            log.warning("%s is damaged (%s): the step is run again", record, error)
            return None
        return steps if whole else None

    def figures(self, key: str, evaluation: str) -> Figures | None:
        """What was kept of a candidate's figures on the evaluation set of that digest."""
        path = self.folder / key / "figures.json"
        try:
            found = json.loads(path.read_bytes())
            if found["evaluation"] == evaluation:
                return {str(name): float(value) for name, value in found["figures"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            log.debug("%s: none", path, exc_info=True)
        return None

    def keep_figures(self, key: str, evaluation: str, figures: Figures) -> None:
        """Keep a candidate's figures."""
        whole = {"evaluation": evaluation, "figures": figures}
        write_text(self.folder / key / "figures.json", to_json(whole))
