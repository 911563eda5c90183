"""Every pass by name, and what each reads. A module has ``Options``, a dataclass, and ``apply``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
NEEDS_SAMPLES: Mapping[str, Callable[[Any], bool]] = {
    "qat": lambda options: True,
    "adaround": lambda options: True,
    "correct-biases": lambda options: True,
    "equalize": lambda options: options.by == "activations" or options.relu6 == "replace",
    "prune-filters": lambda options: options.criterion in ("taylor", "activation"),
    "width": lambda options: options.criterion in ("taylor", "activation"),
}
"""The passes that cannot do without samples, labels or not, by their options."""
LOOKS = frozenset({*NEEDS_SAMPLES, "head", "lowrank", "separable"})
"""The passes that look at samples where there are any."""
SCHEME = frozenset({"qat", "cluster", "adaround", "correct-biases"})
"""The passes whose result depends on the recipe's scheme."""
CHANNELS = frozenset({"prune-filters", "width", "lowrank", "student"})
"""The passes whose result depends on how many channels the target's kernels like."""
RENAMES = frozenset({"lowrank", "separable", "head", "student"})
"""The passes after which there are layers with other names."""

Apply = Callable[[Candidate, Any, Context], Candidate]


def options(step: Step, where: str) -> Any:
    """The step's options as its pass's own dataclass. Raises SpecError."""
    return parse(import_module(MODULES[step.name]).Options, step.options, where)


def needs_samples(step: Step) -> bool:
    """Whether the step cannot do without samples."""
    need = NEEDS_SAMPLES.get(step.name)
    return need is not None and need(options(step, f"step {step.name}"))


def apply(step: Step, candidate: Candidate, context: Context) -> Candidate:
    """Run the step's pass."""
    run: Apply = import_module(MODULES[step.name]).apply
    return run(candidate, options(step, f"step {step.name}"), context)
