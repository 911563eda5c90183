"""Quantisation-aware training: the network learns with the rounding that its integers will have.

Kernels and activations are rounded by fake-quant nodes (Jacob et al. 2018), whose ranges the
export reads; with learned ranges their steps are trained, too (Esser et al. 2020). A batch
normalisation stays behind its convolution: it scales each output channel, and so does a
channel's step, so that rounding before or after folding it is the same, in training and at
inference, whatever the batch's statistics. One scale a tensor commutes alike: folded, the
integers stay and the scales become the channels' own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from edgepack.errors import DataError, ModelError, SpecError
from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.constraints import Mask
from edgepack.passes.fit import fit
from edgepack.passes.layers import kind
from edgepack.passes.network import Network, read
from edgepack.spec.fields import FORBID, Fraction, Text

BITS = {"int8": (8, 8), "int4": (4, 8), "int16x8": (8, 16)}
"""Scheme → bits of weights and activations; a mixed one decides at export, from 8 and 8."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is rounded, and how ranges are found.

    ``weight_bits`` and ``activation_bits`` follow from the recipe's scheme, and must agree with
    it. ``ranges``: ``learned`` trains the steps of kernels and activations; with
    ``moving-average`` kernels use their largest weights, and activations follow the batches'
    extremes. All start from the recipe's data, so that the step may also do without training.
    ``delay`` is the part of the training before activations are rounded;
    ``freeze_statistics`` the part after which batch normalisation uses its moving statistics
    and ranges no longer follow; 1 is never. ``per_tensor`` names layers (regular expressions
    over whole names; true: all) whose kernels share one step instead of one a channel, as a
    palette for a whole tensor needs. 4-bit Dense layers always share one: several runtimes have
    no others.
    """

    __pydantic_config__ = FORBID
    weight_bits: Literal[4, 8] | None = None
    activation_bits: Literal[8, 16] | None = None
    ranges: Literal["learned", "moving-average"] = "learned"
    delay: Fraction = 0.0
    freeze_statistics: Fraction = 0.5
    per_tensor: bool | tuple[Text, ...] = False

    def __post_init__(self) -> None:
        for pattern in () if isinstance(self.per_tensor, bool) else self.per_tensor:
            try:
                re.compile(pattern)
            except (re.error, OverflowError, RecursionError) as error:
                raise ValueError(f"'{pattern}' is not a regular expression: {error}") from error

    def shares(self, name: str) -> bool:
        """Whether the kernel of the layer ``name`` is to have one step for the whole tensor."""
        if isinstance(self.per_tensor, bool):
            return self.per_tensor
        return any(re.fullmatch(pattern, name) for pattern in self.per_tensor)


def apply(candidate: Candidate, options: Options, context: Context) -> Candidate:
    """The model with fake-quant nodes, trained where the step trains.

    Raises SpecError where options and scheme disagree, DataError where there is no data for
    first ranges, ModelError for a model that has fake-quant nodes already.
    """
    from edgepack.passes.fake_quant_model import Placed, finish, observe, placed

    bits = bits_of(options, context.scheme)
    network = read(candidate.model)
    _refuse_twice(network)
    if context.samples is None or not len(context.samples):
        raise DataError(
            "qat needs data for its first ranges", "give --calibration or --train, without labels"
        )
    patterned = {c.layer for c in candidate.constraints if not isinstance(c, Mask)}
    made: Placed = placed(
        network,
        options,
        bits,
        select=context.select,
        patterned=patterned,
        freezes=context.training is not None and options.freeze_statistics < 1,
    )
    observe(made, context.samples)
    fit(
        made.model,
        context,
        label="qat",
        constraints=candidate.constraints,
        guides=[Schedule(made, options)],
    )
    changed = finish(made)
    return candidate.then("qat", made.model, changed=changed, skipped=made.skipped)


def bits_of(options: Options, scheme: str) -> tuple[int, int]:
    """Bits of weights and activations. Raises SpecError where options and scheme disagree."""
    if scheme != "mixed" and scheme not in BITS:
        raise SpecError(
            f"qat learns integer ranges, but the recipe exports {scheme}",
            "choose the scheme int8, int4 or int16x8, or leave qat out",
        )
    wanted = (options.weight_bits, options.activation_bits)
    usual = BITS.get(scheme, (8, 8))
    for name, asked, given in zip(("weight", "activation"), wanted, usual, strict=True):
        if asked is not None and asked != given and scheme != "mixed":
            raise SpecError(
                f"qat: {name}_bits is {asked}, but the scheme {scheme} has {given}",
                f"leave {name}_bits out, or choose another scheme",
            )
    return wanted[0] or usual[0], wanted[1] or usual[1]


def _refuse_twice(network: Network) -> None:
    for call in network.calls:
        if kind(call.layer) == "FakeQuantRange" or hasattr(call.layer, "weight_bits"):
            raise ModelError(
                f"{network.name}: '{call.name}' is fake-quantised already",
                "let the recipe have one qat step",
            )


class Schedule:
    """Switches on rounding after the delay, and stops statistics where they are to freeze."""

    def __init__(self, made: Any, options: Options) -> None:
        self.made, self.options = made, options
        self.settled = options.delay == 0

    def before(self, done: int, total: int) -> None:
        """Set the switches for the update that comes."""
        active = float(done >= self.options.delay * total)
        moving = float(done < self.options.freeze_statistics * total)
        for layer in self.made.ranges.values():
            layer.active.assign(active)
            layer.moving.assign(moving)
        for layer in self.made.norms:
            layer.frozen.assign(1.0 - moving)

    def after(self, done: int, total: int) -> None:
        """From where activations are rounded on, an epoch may be the best."""
        self.settled = done > self.options.delay * total

    def state(self) -> dict[str, Any]:
        """Nothing: the switches follow from how much is done."""
        return {}

    def restore(self, state: Any) -> None:
        """Nothing."""
