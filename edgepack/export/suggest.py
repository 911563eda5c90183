"""What may help a layer that hurts: drawn from where its error comes from and how values spread.

Nothing is suggested for a layer whose own error is small beside its signal.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgepack.records import LayerError, Suggestion

HURTS_DB = 25.0
"""Below this a layer's own error is worth a change: 8 bits well used give 35 to 45 dB."""
WIDE_RANGE = 3.0
"""A range that is so many times the one of 99.9 % of the values spends its steps on outliers."""
UNEVEN = 8.0
"""Where the largest channel is so many times the median one, most channels lose three bits."""
MANY = 4
OTHERS_DB = 10.0
"""4-bit weights are about 20 dB from their floats."""
FOUR_BITS = ("int4", "int2", "uint4")


def suggestion(row: LayerError, wide: str = "int16x8") -> Suggestion | None:
    """The first thing to try for a layer; None where its own error does not matter.

    ``wide`` is the scheme wider than int8 that the file's runtime computes.
    """
    if row.local_sqnr_db is None or row.local_sqnr_db >= HURTS_DB:
        return None
    shares = {
        "input": row.from_input or 0.0,
        "weights": row.from_weights or 0.0,
        "output": row.from_output or 0.0,
    }
    if not any(shares.values()):
        return _wider(row, wide, f"its error of {row.local_sqnr_db:.1f} dB cannot be told apart")
    worst = max(shares, key=lambda source: shares[source])
    share = f"{shares[worst]:.0%} of its error"
    if worst == "weights":
        return _for_weights(row, wide, share)
    if worst == "input":
        return _for_values(
            row, wide, f"{share} is its input's rounding", row.input_range_ratio,
            row.input_channel_ratio, row.reads,
        )  # fmt: skip
    return _for_values(
        row, wide, f"{share} is its output's rounding", row.output_range_ratio,
        row.output_channel_ratio, (),
    )  # fmt: skip


def _for_weights(row: LayerError, wide: str, share: str) -> Suggestion:
    what = f"{share} comes of its weights and arithmetic"
    uneven = row.weight_channel_ratio or 1.0
    if row.weights is None:
        return _wider(row, wide, f"{share} comes of its arithmetic: it has no weights to improve")
    if row.weights in FOUR_BITS:
        return Suggestion(
            what="keep its weights at 8 bits (scheme int8 for this layer in a mixed recipe), "
            "or train with qat",
            why=f"{what}, which have {row.weights.lstrip('uint')} bits",
        )
    if row.granularity == "per-tensor" and uneven >= UNEVEN / 2:
        return Suggestion(
            what="one weight scale a channel, or the step equalize where the runtime has none",
            why=f"{what}: one scale for all channels, of which the largest is "
            f"{uneven:.0f} times the median one",
        )
    if row.weights in ("int8", "uint8"):
        return Suggestion(
            what="the step adaround or correct-biases, else qat",
            why=f"{what}, though each channel has its scale"
            if row.granularity == "per-channel"
            else f"{what}; the channels are even, so that more scales would not help",
        )
    return _wider(row, wide, what)


def _for_values(
    row: LayerError,
    wide: str,
    what: str,
    range_ratio: float | None,
    channel_ratio: float | None,
    reads: Sequence[str],
) -> Suggestion:
    where = f" between {', '.join(reads)} and {row.layer}" if reads else ""
    if (channel_ratio or 1.0) >= UNEVEN:
        return Suggestion(
            what=f"the step equalize{where}, else {_width(row, wide)}{_along(reads)}",
            why=f"{what}: the largest channel is {channel_ratio:.0f} times the median one, "
            "and all share one scale",
        )
    if (range_ratio or 1.0) >= WIDE_RANGE:
        return Suggestion(
            what="the calibrator percentile or mse, which leave outliers out",
            why=f"{what}: the range is {range_ratio:.1f} times that of 99.9 % of the values",
        )
    return _wider(row, wide, f"{what}, and neither outliers nor single channels explain it", reads)


def _wider(row: LayerError, wide: str, why: str, reads: Sequence[str] = ()) -> Suggestion:
    return Suggestion(what=f"{_width(row, wide)}{_along(reads)}, or train with qat", why=why)


def _width(row: LayerError, wide: str) -> str:
    """A wider type than the one that the layer has."""
    return f"keep it in {'float32' if row.dtype in ('int16', 'float32') else wide}"


def _along(reads: Sequence[str]) -> str:
    return f" together with {', '.join(reads)}" if reads else ""


def overall(ranked: Sequence[LayerError], wide: str = "int16x8") -> tuple[Suggestion, ...]:
    """What may help the whole model; ``ranked`` are its layers, the worst first."""
    bad = [r for r in ranked if r.local_sqnr_db is not None and r.local_sqnr_db < HURTS_DB]
    names = list(dict.fromkeys(row.layer for row in bad))
    if not names:
        return ()
    if len(names) > MANY and 2 * len(names) > len({row.layer for row in ranked}):
        return (
            Suggestion(
                what=f"train with qat, or export in {_narrowest(bad, wide)}",
                why=f"{len(names)} layers have errors of their own within {HURTS_DB:g} dB of "
                "their signal: single layers are not the cause",
            ),
        )
    return (
        Suggestion(
            what=f"a mixed recipe that keeps {', '.join(_tied(bad)[:MANY])} wider: "
            "--rescue looks for the cheapest that meets a limit",
            why=f"{len(names)} of {len({row.layer for row in ranked})} layers have errors of "
            f"their own within {HURTS_DB:g} dB of their signal",
        ),
    )


def _tied(rows: Sequence[LayerError]) -> list[str]:
    """The layers, with those that make what they read where that is what hurts."""
    names = []
    for row in rows:
        names += [row.layer, *(row.reads if (row.from_input or 0.0) > 0.5 else ())]
    return list(dict.fromkeys(names))


def _narrowest(rows: Sequence[LayerError], wide: str) -> str:
    """The next wider scheme for a whole model."""
    return "int8" if any(row.weights in FOUR_BITS for row in rows) else wide


def strangers(rows: Sequence[LayerError]) -> tuple[str, ...]:
    """A warning where the file's weights are plainly not the model's."""
    known = [row.weight_sqnr_db for row in rows if row.weights is not None]
    told = sorted(value for value in known if value is not None)
    if not told or told[len(told) // 2] >= OTHERS_DB:
        return ()
    return (
        f"its weights are not the model's ({told[len(told) // 2]:.1f} dB in the median layer): "
        "where it was trained or changed after the model, that counts as error here",
    )
