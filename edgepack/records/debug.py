"""A diagnosis: where an exported model departs from the model it was made of, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgepack.records.shared import Record


@dataclass(frozen=True, kw_only=True)
class Suggestion(Record):
    """What may help a layer, and the figures that speak for it."""

    what: str
    why: str


@dataclass(frozen=True, kw_only=True)
class TensorError(Record):
    """A tensor's error over all samples, in real units.

    ``sqnr_db`` is the signal's power over the error's; null where there is no error, -99 where
    there is no signal or the values are not finite. ``cosine`` is that of the angle between
    both; null where one is zero. ``max_lsb`` is ``max_abs`` in the exported tensor's steps, null
    where it is not quantised.
    """

    sqnr_db: float | None
    cosine: float | None
    max_abs: float | None
    max_lsb: float | None = None


@dataclass(frozen=True, kw_only=True)
class LayerError(TensorError):
    """One operator of the exported file that has its like in the float model.

    ``layer`` is the Keras layer's name, or the nearest that the file has. The errors of
    ``TensorError`` have piled up from the input to here; ``local_sqnr_db`` is that of this
    operator alone, given the float model's own values: it and the shares are null where that
    cannot be run. ``from_input``, ``from_weights`` and ``from_output`` are the shares of its
    local error that come of rounding what it reads, of its weights and arithmetic, and of
    rounding its output. ``input_range_ratio`` and ``output_range_ratio`` say how many times wider
    a range is than the one that holds 99.9 % of the values; the channel ratios how many times
    larger the largest channel is than the median one. ``weight_sqnr_db`` is how far the file's
    weights are from the float model's. ``reads`` names the layers it reads.
    """

    layer: str
    op: str
    tensor: str
    dtype: str
    weights: str | None
    granularity: Literal["none", "per-tensor", "per-channel", "blockwise"]
    macs: int
    weight_bytes: int
    local_sqnr_db: float | None = None
    from_input: float | None = None
    from_weights: float | None = None
    from_output: float | None = None
    input_range_ratio: float | None = None
    input_channel_ratio: float | None = None
    output_range_ratio: float | None = None
    output_channel_ratio: float | None = None
    weight_channel_ratio: float | None = None
    weight_sqnr_db: float | None = None
    reads: tuple[str, ...] = ()
    suggestion: Suggestion | None = None


@dataclass(frozen=True, kw_only=True)
class Trial(Record):
    """Layers that were kept in ``scheme``, and what came of it; null where it failed."""

    layers: tuple[str, ...]
    value: float | None
    size_bytes: int | None
    scheme: str = ""
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Rescue(Record):
    """The mixed scheme that was looked for.

    ``layers`` are in ``scheme``, all others in ``otherwise``; there are none where the file meets
    the limit as it is (nothing was tried) or exported anew. ``reference``, ``before`` and ``after``
    are the metric of the float model, of the given file and of the mixed one, over ``samples``
    evaluation samples (``data`` is their digest). The same samples chose the layers, so that
    samples which nothing has seen would judge a little lower. ``wide_macs`` is the share of MACs
    in the wider scheme.
    """

    limit: str
    met: bool
    scheme: str
    otherwise: str
    layers: tuple[str, ...]
    metric: str
    reference: float
    before: float
    after: float
    size_before_bytes: int
    size_after_bytes: int
    wide_macs: float
    samples: int
    data: str
    tried: tuple[Trial, ...]
    file: str | None = None
    recipe: str | None = None


@dataclass(frozen=True, kw_only=True)
class Debug(Record):
    """An exported file against its model. ``ranked`` are layers, the largest local error first.

    ``matched`` of the file's operators have their like in the float model, ``unmatched`` names
    the others. ``output`` is the error of all outputs together.
    """

    model: str
    file: str
    sha256: str
    runtime: str
    samples: int
    matched: int
    unmatched: tuple[str, ...]
    output: TensorError
    layers: tuple[LayerError, ...]
    ranked: tuple[str, ...]
    suggestions: tuple[Suggestion, ...]
    rescued: Rescue | None = None
    notes: tuple[str, ...] = ()
    schema: Literal["edgepack.debug/1"] = "edgepack.debug/1"
