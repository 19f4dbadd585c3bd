"""Calls of other services in the name of the person whose call is being served."""

from __future__ import annotations

from typing import Any

from libs.rpc.channel import within
from libs.rpc.identity import current_call


def for_the_caller(seconds: float, headers: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
    """Returns the keyword arguments of an outgoing call: those of `within`, and the person's own authorization.

    `headers` go along.
    """
    options = within(seconds)
    own = ("authorization", current_call().authorization)
    return {**options, "metadata": (*options["metadata"], own, *headers)}
