"""Keeps what is in this process's memory from others: no core file of it, and no debugger of the same user."""

from __future__ import annotations

import ctypes
import resource

_PR_SET_DUMPABLE = 4


def keep_memory_private() -> None:
    """Has the system write no core of this process, and show its memory to nobody but root.

    Linux goes by both; where there is no prctl, as on macOS, the limit alone holds. Cores that are piped to a program
    heed the second only. Other programs that this process starts are not covered.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)
    if prctl is not None and prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0), *[ctypes.c_ulong(0)] * 3):
        raise OSError(ctypes.get_errno(), "prctl")
