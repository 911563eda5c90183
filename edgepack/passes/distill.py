"""Distillation alone: the model learns from its own original, the teacher (Hinton et al. 2015)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.fit import fit, told
from edgepack.passes.network import read, rebuild
from edgepack.spec.fields import FORBID
from edgepack.spec.steps import Distillation


@dataclass(frozen=True, kw_only=True)
class Options:
    """None: the step's ``train`` and ``distill`` say all."""

    __pydantic_config__ = FORBID


def apply(candidate: Candidate, options: Options, context: Context) -> Candidate:
    """Train a copy of the model to answer as the teacher does; its constraints hold."""
    taught = replace(context, distill=context.distill or Distillation())
    model = rebuild(read(candidate.model))
    history = fit(model, taught, label="distill", constraints=candidate.constraints)
    return candidate.then("distill", model, changed=told(history))
