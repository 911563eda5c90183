"""One step of a recipe: a pass, the layers that it may touch, its options, and how it trains."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Interval

from edgepack.spec.fields import FORBID, Count, Fraction, Natural, NotNegative, Positive, Text

FAMILIES = {
    "qat": "quantization-aware training",
    "binary": "low-bit weights",
    "ternary": "low-bit weights",
    "sparse": "weight pruning",
    "prune-filters": "filter pruning",
    "cluster": "clustering",
    "distill": "distillation",
    "student": "distillation",
    "lowrank": "low rank",
    "separable": "architecture",
    "width": "architecture",
    "activations": "architecture",
    "head": "architecture",
    "fold": "architecture",
    "equalize": "repair",
    "correct-biases": "repair",
    "adaround": "repair",
    "finetune": "fine-tuning",
}
"""Every pass and the family of techniques it belongs to."""


AUGMENTATIONS = ("none", "flip-shift", "shift", "noise")


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a step trains: the budget and the usual knobs.

    ``schedule`` is what the learning rate does after it climbed during the share ``warmup`` of
    all updates. ``weight_decay`` is for kernels, ``clip_norm`` for all gradients together.

    ``patience`` epochs that are no better on the held-back part end the training, and the best
    epoch's weights are kept; 0 trains to the end. Better is by ``metric`` (``top1 top5 auc mse
    mae``), else by the loss. The share ``holdout`` of the samples is held back where there is
    patience or a metric.

    ``augment`` is ``none``, ``flip-shift`` (images), ``shift`` (images and signals) or ``noise``.

    ``loss``, ``metric``, ``augment`` and ``step`` may be ``file.py:function``, relative to the
    recipe's file, which needs ``--allow-code``: loss(y_true, y_pred[, x]), metric(y_true,
    outputs), augment(x, y, rng), step(model, optimizer, x, y). The loss ``auto`` follows from
    outputs and labels; a ``step`` has its own.
    """

    __pydantic_config__ = FORBID
    epochs: Count
    learning_rate: Positive = 1e-3
    batch_size: Count = 32
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: Fraction = 0.0
    weight_decay: NotNegative = 0.0
    clip_norm: Positive | None = None
    patience: Natural = 0
    holdout: Annotated[float, Interval(gt=0, lt=1)] = 0.1
    loss: Text = "auto"
    metric: Text | None = None
    augment: Text = "none"
    step: Text | None = None

    def __post_init__(self) -> None:
        known = {"loss": ("auto",), "augment": AUGMENTATIONS, "step": ()}
        for name, words in known.items():
            value = getattr(self, name)
            if value is not None and value not in words and ":" not in value:
                near = difflib.get_close_matches(value, words, n=1)
                hint = f"did you mean '{near[0]}'?" if near else "write file.py:function"
                raise ValueError(f"{name} '{value}' is not known; {hint}")
        if self.step and self.loss != "auto":
            raise ValueError("a step of one's own has its own loss: keep either step or loss")
        if self.step and self.patience and not self.metric:
            raise ValueError("a step of one's own with patience needs a metric to judge by")

    @property
    def functions(self) -> tuple[str, ...]:
        """The user's functions that it runs, each ``file.py:function``."""
        named = (self.loss, self.metric, self.augment, self.step)
        return tuple(name for name in named if name and ":" in name)


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """Learning from the teacher, which is the recipe's original model.

    Its outputs are softened by ``temperature``. ``labels`` is the share of the loss that the
    labels keep; 0 needs none. ``hidden`` names the teacher's layers (a regular expression over
    the whole name) whose outputs are learned too, at the weight ``hidden_weight``; ``auto`` picks
    some. ``attention`` compares where they look instead of their values.
    """

    __pydantic_config__ = FORBID
    temperature: Positive = 4.0
    labels: Fraction = 0.3
    hidden: Text | None = None
    hidden_weight: NotNegative = 1.0
    attention: bool = False

    def __post_init__(self) -> None:
        if self.attention and self.hidden is None:
            raise ValueError('attention is of hidden layers: add hidden = "auto"')
        try:
            re.compile(self.hidden or "")
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"'{self.hidden}' is not a regular expression: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Step:
    """One pass of a recipe.

    ``layers`` and ``skip`` are regular expressions over a layer's whole name, or ``@first``
    and ``@last``; ``types`` are Keras class names. ``options`` are the pass's own.
    """

    __pydantic_config__ = FORBID
    name: Text
    layers: Text | None = None
    types: tuple[Text, ...] = ()
    skip: Text | None = None
    options: dict[str, Any] = field(default_factory=dict)
    train: Training | None = None
    distill: Distillation | None = None

    def __post_init__(self) -> None:
        if self.name not in FAMILIES:
            near = difflib.get_close_matches(self.name, FAMILIES, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(FAMILIES)}"
            raise ValueError(f"no pass is called '{self.name}'; {hint}")
        if self.distill is not None and self.train is None:
            raise ValueError(f"step '{self.name}' distills but does not train: add train = {{…}}")
        if self.name == "distill" and self.train is None:
            raise ValueError("step 'distill' does not train: add train = {…}")
        if self.distill is not None and self.train is not None and self.train.step:
            raise ValueError("a training step of one's own cannot distil: leave out one of them")
        for pattern in (self.layers, self.skip):
            try:
                re.compile(pattern or "")
            except (re.error, OverflowError, RecursionError) as error:
                raise ValueError(f"'{pattern}' is not a regular expression: {error}") from error

    @property
    def needs_labels(self) -> bool:
        """Whether its loss takes labels; an autoencoder's are its inputs."""
        return self.train is not None and (self.distill is None or self.distill.labels > 0)
