"""How long Claude shall think: the caller's effort in the terms of each family of models.

https://platform.claude.com/docs/en/build-with-claude/thinking and …/effort
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.worker.reasoning_effort import OPTION, settle
from libs.worker.unsupported_options import UnsupportedOptions
from services.workers.anthropic.model_rules import ModelRules

# Tokens for thinking, where the caller's effort must be said as a number. No less than the first is taken.
_BUDGETS = {"minimal": 1_024, "low": 2_048, "medium": 8_192, "high": 16_384, "xhigh": 24_576, "max": 32_000}
_LEAST_BUDGET = _BUDGETS["minimal"]
_BETWEEN_TOOLS = {"type": "between_tools"}
_LONG_THOUGHTS = ("high", "xhigh", "max")

# `max_tokens` must be said. This is a long answer, and about the longest that comes without streaming.
_USUAL_LIMIT = 16_384
_LONG_LIMIT = 64_000


@dataclass(frozen=True, slots=True)
class Thinking:
    """What a request says of it. `budget` is part of `config`, in tokens; 0 where there is none."""

    config: dict[str, Any] | None = None
    effort: str = ""
    budget: int = 0

    @property
    def on(self) -> bool:
        """True when thinking is asked for, with all that this forbids."""
        return self.config is not None and self.config["type"] in ("adaptive", "enabled")

    def usual_limit(self, rules: ModelRules) -> int:
        """Returns a limit on the answer, thinking included, for a caller who sets none."""
        limit = _LONG_LIMIT if self.effort in _LONG_THOUGHTS else _USUAL_LIMIT + self.budget
        return min(limit, rules.longest_answer)


def thinking_of(
    options: chat.ChatOptions,
    model: str,
    rules: ModelRules,
    limit: int | None,
    unsupported: UnsupportedOptions,
    *,
    thoughts_missing: bool,
) -> Thinking:
    """Decides how the model shall think. `limit` is the caller's on the answer.

    `thoughts_missing` says that the conversation is in the middle of a loop of tool calls whose first turn came
    without its `reasoning_details`.
    """
    effort = options.reasoning_effort
    if not effort:
        return Thinking()
    if effort == "none":
        if rules.thinks_unasked and _without(rules) is None:
            lowest = rules.efforts[0]
            unsupported.drop(OPTION, f"{model} always thinks; `{lowest}` was asked for.")
            return Thinking(effort=lowest)
        without = _without(rules)
        if without == _BETWEEN_TOOLS:
            unsupported.drop(OPTION, f"{model} cannot be kept from thinking between tool calls.")
        return Thinking(without)
    if "adaptive" in rules.thinking:
        # Newer models keep their thoughts back unless told otherwise.
        return Thinking(
            {"type": "adaptive", "display": "summarized"}, settle(effort, rules.efforts, model, unsupported)
        )
    if "enabled" not in rules.thinking:
        unsupported.drop(OPTION, f"{model} does not think.")
        return Thinking()
    if options.tool_choice not in ("", "auto", "none"):
        unsupported.drop(OPTION, f"{model} does not think when it is made to call a tool.")
        return Thinking()
    if thoughts_missing:
        unsupported.drop(
            OPTION, f"{model} goes on thinking only where the assistant's turn came with its reasoning_details."
        )
        return Thinking()
    # The limit covers both: a fifth of it is left for the answer.
    most = rules.longest_answer if limit is None else limit
    budget = max(_LEAST_BUDGET, min(_BUDGETS[effort], most * 4 // 5))
    if budget >= most:
        unsupported.drop(OPTION, f"{model} thinks {_LEAST_BUDGET} tokens at least; a limit of {most} leaves no room.")
        return Thinking()
    if budget < _BUDGETS[effort]:
        unsupported.drop(OPTION, f"{model} has no room for `{effort}` in {most} tokens; {budget} were asked for.")
    return Thinking({"type": "enabled", "budget_tokens": budget}, budget=budget)


def _without(rules: ModelRules) -> dict[str, Any] | None:
    """Turns thinking off as far as the model lets itself be stopped."""
    return next((way for way in ({"type": "disabled"}, _BETWEEN_TOOLS) if way["type"] in rules.thinking), None)
