"""Numbers as people read them: sensible units, three digits, never NaN.

Every function takes None, NaN and infinity and gives ``NOTHING`` for them.
"""

from __future__ import annotations

import math
from typing import TypeGuard

NOTHING = "–"
LOWER_IS_BETTER = frozenset({"mse", "mae"})
SHARES = frozenset({"top1", "top5", "accuracy"})


def known(value: float | None) -> TypeGuard[float]:
    """Whether there is a finite number."""
    return value is not None and math.isfinite(value)


def digits(value: float | None, significant: int = 3) -> str:
    """``value`` rounded to so many digits, with no exponent and no trailing zeros."""
    if not known(value):
        return NOTHING
    if value == 0:
        return "0"
    places = max(0, significant - 1 - math.floor(math.log10(abs(value))))
    if places > 9:
        return f"{value:.{significant - 1}e}"
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def size(count: float | None) -> str:
    """Bytes in B, KiB, MiB or GiB."""
    return _scaled(count, 1024, ("B", "KiB", "MiB", "GiB"))


def quantity(count: float | None) -> str:
    """A count (MACs, parameters) with k, M or G."""
    return _scaled(count, 1000, ("", "k", "M", "G"))


def duration(microseconds: float | None) -> str:
    """A time in µs, ms or s."""
    if known(microseconds) and abs(microseconds) >= 60e6:
        return f"{digits(microseconds / 60e6)} min"
    return _scaled(microseconds, 1000, ("µs", "ms", "s"))


def spread(low: float | None, high: float | None) -> str:
    """An interval of microseconds, as ``± half`` of its width; 0.05 is what clocks resolve."""
    if not known(low) or not known(high):
        return ""
    half = (high - low) / 2
    if half < 0.05:
        return "± < 0.05 µs"
    return f"± {duration(float(f'{half:.2g}'))}"


def score(metric: str, value: float | None) -> str:
    """A metric's value: per cent for shares of samples, digits for everything else."""
    if not known(value):
        return NOTHING
    return f"{value * 100:.2f} %" if metric in SHARES else digits(value, 4)


def change(metric: str, loss: float | None) -> str:
    """How much was lost (positive) or won (negative) of a metric, with its sign turned."""
    if not known(loss):
        return NOTHING
    gained = -loss if metric not in LOWER_IS_BETTER else loss
    shown = f"{abs(gained) * 100:.2f}" if metric in SHARES else digits(abs(gained))
    sign = "±" if float(shown.replace(",", "")) == 0 else "+" if gained > 0 else "−"
    return f"{sign}{shown} points" if metric in SHARES else f"{sign}{shown}"


def chance(share: float | None, samples: int) -> float | None:
    """Half the width of the 95 % interval (Wilson) of a share of that many samples."""
    if not known(share) or samples <= 0 or not 0 <= share <= 1:
        return None
    z = 1.96
    inside = share * (1 - share) / samples + (z / (2 * samples)) ** 2
    return z * math.sqrt(inside) / (1 + z * z / samples)


def points(share: float) -> str:
    """A difference of shares, in percentage points."""
    text = digits(round(share * 100, 9)).replace("-", "−")
    return f"{text} {'point' if text == '1' else 'points'}"


def loss(metric: str, reference: float | None, value: float | None) -> float | None:
    """How much worse ``value`` is than ``reference``; negative where it is better."""
    if not known(reference) or not known(value):
        return None
    return value - reference if metric in LOWER_IS_BETTER else reference - value


def ratio(before: float | None, after: float | None, less: str, more: str) -> str:
    """``3.35× smaller``, with the words for less and for more."""
    if not known(before) or not known(after) or before <= 0 or after <= 0:
        return ""
    if 0.995 < before / after < 1.005:
        return "the same"
    return (
        f"{digits(before / after)}× {less}"
        if before > after
        else f"{digits(after / before)}× {more}"
    )


def apart(found: float, allowed: float) -> tuple[str, str]:
    """Both numbers with the digits that it takes to tell them apart."""
    for significant in range(3, 9):
        pair = digits(found, significant), digits(allowed, significant)
        if pair[0] != pair[1]:
            return pair
    return digits(found), digits(allowed)


def _scaled(value: float | None, step: int, names: tuple[str, ...]) -> str:
    if not known(value):
        return NOTHING
    scaled, index = float(value), 0
    while abs(scaled) >= step * 0.9995 and index < len(names) - 1:
        scaled, index = scaled / step, index + 1
    return f"{digits(scaled)} {names[index]}".rstrip()
