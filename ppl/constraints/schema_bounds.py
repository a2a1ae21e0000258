"""Bounds of numbers as llguidance 1.9 enforces them, which is not always what they say."""

from __future__ import annotations

from decimal import Decimal

_LARGEST = 10**17
_DIGITS = 16


def enforceable(keyword: str, value: float) -> tuple[str, float]:
    """A bound of which llguidance makes what it means, or a little less.

    It computes with 64-bit integers, so no bound lies beyond 1e17. And where both bounds lie between the same
    two integers, it takes an excluded integer for included if it is the one nearer zero: such a bound becomes
    the next number of sixteen digits.

    >>> enforceable("exclusiveMinimum", 0), enforceable("exclusiveMaximum", 10)
    (('minimum', 1e-15), ('exclusiveMaximum', 10))
    """
    upper = keyword.endswith("aximum")
    value = min(value, _LARGEST) if upper else max(value, -_LARGEST)
    nearer_zero = value <= 0 if upper else value >= 0
    if not keyword.startswith("exclusive") or value != int(value) or not nearer_zero:
        return keyword, value
    gap = 10.0 ** (len(str(abs(int(value)))) - _DIGITS)
    return keyword.replace("exclusiveM", "m"), value - gap if upper else value + gap


def truncations(keyword: str, value: float) -> list[float]:
    """The numbers that llguidance leaves out below a bound: its first decimals alone.

    It lets 9.90 pass `"maximum": 9.99`, but not 9.9.

    >>> truncations("maximum", 9.995), truncations("minimum", 0.25)
    ([9.9, 9.99], [])
    """
    if value <= 0 if keyword.endswith("aximum") else value >= 0:
        return []
    whole, _, decimals = format(abs(Decimal(str(value))), "f").partition(".")
    sign = 1 if value > 0 else -1
    return [sign * float(f"{whole}.{decimals[:n]}") for n in range(1, len(decimals))]
