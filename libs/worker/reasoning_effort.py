"""How long a model shall think, in the words every provider shares."""

from __future__ import annotations

from collections.abc import Collection

from libs.worker.unsupported_options import UnsupportedOptions

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


OPTION = "options.reasoningEffort"


def settle(effort: str, offered: Collection[str], model: str, unsupported: UnsupportedOptions) -> str:
    """Returns the effort to ask a model for, noted where it is not the one that was wanted; empty for none at all.

    `offered` are those the model has, none for a model that cannot be told.
    """
    if not offered:
        unsupported.drop(OPTION, f"{model} cannot be told how long to think.")
        return ""
    taken = nearest(effort, offered)
    if taken != effort:
        unsupported.drop(OPTION, f"{model} has no effort `{effort}`; `{taken}` was asked for.")
    return taken


def nearest(effort: str, offered: Collection[str]) -> str:
    """Returns the offered effort nearest to the one asked for, the smaller of two.

    `effort` and at least one of `offered` must be of EFFORTS.
    """
    wanted = EFFORTS.index(effort)
    return min((each for each in EFFORTS if each in offered), key=lambda each: abs(EFFORTS.index(each) - wanted))
