"""What Anthropic's models take, told from their names.

Sources: the model list of the official `anthropic` SDK 2.12, and Anthropic's pages on thinking, effort, structured
outputs, what is new in each model, and the migration to version 2026-10-21 of its API, read in November 2026.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

# `claude-opus-4-5-20251101`, `claude-fable-5`; models before 4 have the line behind the version.
_NAME = re.compile(r"claude-(?P<line>[a-z]+)-(?P<major>\d{1,2})(?:-(?P<minor>\d{1,2}))?(?:-\d{8}|-latest)?")
_OLD_NAME = re.compile(r"claude-(?P<major>\d)(?:-(?P<minor>\d))?-(?P<line>[a-z]+)(?:-\d{8}|-latest)?")

_LINES = frozenset({"haiku", "sonnet", "opus", "fable", "mythos"})
_ALWAYS_THINKING = ("fable", "mythos")
_ALL_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_CACHED_NAMES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRules:
    """What one model takes.

    `thinking` are the values of `thinking.type` it accepts, and `thinks_unasked` says that it thinks without the
    field. `efforts` are the levels of `output_config.effort`. `sampling` is temperature and top-p, `forced_tools`
    a choice of tools other than auto and none, `prefill` an assistant turn to continue, `schemas` an answer held to
    a JSON schema. `bound_thoughts` says that thinking blocks are refused where anything before them has changed.
    `longest_answer` is in tokens.
    """

    thinking: frozenset[str] = frozenset({"adaptive"})
    thinks_unasked: bool = True
    efforts: tuple[str, ...] = _ALL_EFFORTS
    sampling: bool = False
    forced_tools: bool = True
    prefill: bool = False
    schemas: bool = True
    bound_thoughts: bool = True
    longest_answer: int = 128_000


# A model nobody here has heard of: what all of the newest do. What only some of them refuse is left to it.
_NEWEST = ModelRules()


@lru_cache(_CACHED_NAMES)
def rules_of(model: str) -> ModelRules:
    """Returns what a model takes; a newer one of a known line is taken for the newest known."""
    name = _NAME.fullmatch(model) or _OLD_NAME.fullmatch(model)
    if name is None or name["line"] not in _LINES:
        return _NEWEST
    version = int(name["major"]), int(name["minor"] or 0)
    if version < (4, 7):
        return _older(name["line"], version)
    return ModelRules(
        thinking=frozenset({"adaptive", *_ways_not_to_think(name["line"], version)}),
        # Opus 4.7 and 4.8 think only when told to.
        thinks_unasked=version >= (5, 0),
        forced_tools=not _decides_on_tools(name["line"], version),
        bound_thoughts=version >= ((5, 1) if name["line"] in _ALWAYS_THINKING else (5, 5)),
    )


def _older(line: str, version: tuple[int, int]) -> ModelRules:
    if version >= (4, 6):
        return ModelRules(
            thinking=frozenset({"adaptive", "enabled", "disabled"}),
            thinks_unasked=False,
            efforts=("low", "medium", "high", "max"),
            sampling=True,
            bound_thoughts=False,
        )
    by_hand = version >= (3, 7)
    if not by_hand:
        longest_answer = 8_192 if version >= (3, 5) else 4_096
    else:
        longest_answer = 32_000 if line == "opus" and version < (4, 5) else 64_000
    return ModelRules(
        thinking=frozenset({"enabled", "disabled"}) if by_hand else frozenset(),
        thinks_unasked=False,
        efforts=(),
        sampling=True,
        prefill=True,
        schemas=version >= (4, 5) or (line, version) == ("opus", (4, 1)),
        bound_thoughts=False,
        longest_answer=longest_answer,
    )


def _ways_not_to_think(line: str, version: tuple[int, int]) -> tuple[str, ...]:
    if line in _ALWAYS_THINKING or (line == "opus" and version >= (5, 5)):
        return ()
    if line == "sonnet" and version >= (5, 5):
        return ("between_tools",)
    return ("disabled",)


def _decides_on_tools(line: str, version: tuple[int, int]) -> bool:
    """Tells whether a model refuses to be made to call a tool."""
    if line in _ALWAYS_THINKING:
        return version >= (5, 1)
    return line in ("opus", "sonnet") and version >= (5, 5)
