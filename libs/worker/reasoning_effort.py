"""How long a model shall think, in the words every provider shares."""

from __future__ import annotations

from collections.abc import Collection

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def nearest(effort: str, offered: Collection[str]) -> str:
    """Returns the offered effort nearest to the one asked for, the smaller of two.

    `effort` and at least one of `offered` must be of EFFORTS.
    """
    wanted = EFFORTS.index(effort)
    return min((each for each in EFFORTS if each in offered), key=lambda each: abs(EFFORTS.index(each) - wanted))
