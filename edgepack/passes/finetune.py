"""Training alone: recovers what earlier steps cost, or shows what training by itself brings."""

from __future__ import annotations

from dataclasses import dataclass

from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.fit import fit, told
from edgepack.passes.network import read, rebuild
from edgepack.spec.fields import FORBID


@dataclass(frozen=True, kw_only=True)
class Options:
    """None: the step's ``train`` says all."""

    __pydantic_config__ = FORBID


def apply(candidate: Candidate, options: Options, context: Context) -> Candidate:
    """Train a copy of the model; its constraints hold."""
    model = rebuild(read(candidate.model))
    history = fit(model, context, label="finetune", constraints=candidate.constraints)
    return candidate.then("finetune", model, changed=told(history))
