"""Every pass by name. A module has ``Options``, a frozen dataclass, and ``apply``."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from edgepack.passes.candidate import Candidate, Context
from edgepack.spec.steps import Step
from edgepack.spec.toml import parse

MODULES = {
    "qat": "edgepack.passes.qat",
    "binary": "edgepack.passes.binary",
    "ternary": "edgepack.passes.ternary",
    "sparse": "edgepack.passes.sparse",
    "prune-filters": "edgepack.passes.prune_filters",
    "cluster": "edgepack.passes.cluster",
    "distill": "edgepack.passes.distill",
    "student": "edgepack.passes.student",
    "lowrank": "edgepack.passes.lowrank",
    "separable": "edgepack.passes.separable",
    "width": "edgepack.passes.width",
    "activations": "edgepack.passes.activations",
    "head": "edgepack.passes.head",
    "fold": "edgepack.passes.fold",
    "equalize": "edgepack.passes.equalize",
    "correct-biases": "edgepack.passes.correct_biases",
    "adaround": "edgepack.passes.adaround",
    "finetune": "edgepack.passes.finetune",
}

Apply = Callable[[Candidate, Any, Context], Candidate]


def options(step: Step, where: str) -> Any:
    """The step's options as its pass's own dataclass. Raises SpecError."""
    return parse(import_module(MODULES[step.name]).Options, step.options, where)


def apply(step: Step, candidate: Candidate, context: Context) -> Candidate:
    """Run the step's pass."""
    run: Apply = import_module(MODULES[step.name]).apply
    return run(candidate, options(step, f"step {step.name}"), context)
