"""What Anthropic refuses in how a request wants the model to think.

Source: its guides to thinking and effort, and errors quoted in public issue threads.
"""

from collections.abc import Mapping
from typing import Any

from deploy.local.sandbox_provider.dialects.anthropic import models as models
from deploy.local.sandbox_provider.dialects.anthropic.errors import expect, invalid, is_integer
from deploy.local.sandbox_provider.dialects.anthropic.models import Model

_LEAST_BUDGET = 1024


def thinks(request: Mapping[str, Any]) -> bool:
    """Tells whether a request turns thinking on; a model that may think unasked finds nothing to think about here."""
    return (request.get("thinking") or {}).get("type") in ("enabled", "adaptive")


def check_thinking(request: Mapping[str, Any], model: Model) -> None:
    """Raises `Refusal` for what the model does not take, or not together."""
    thinking = request.get("thinking")
    forced = (request.get("tool_choice") or {}).get("type") in ("any", "tool")
    expect(model.forced_tools or not forced, "tool_choice: forced tool use is not supported on this model.")
    if thinking is None:
        return
    expect(isinstance(thinking, dict), "thinking: Input should be a valid dictionary")
    kind = thinking.get("type")
    if kind not in models.THINKING_TYPES:
        raise invalid(f"thinking: Input tag '{kind}' found using 'type' does not match any of the expected tags")
    allowed = {"disabled": {"type"}, "between_tools": {"type"}, "adaptive": {"type", "display"}}
    for name in thinking:
        expect(
            name in allowed.get(kind, {"type", "display", "budget_tokens"}),
            f"thinking.{kind}.{name}: Extra inputs are not permitted",
        )
    expect(
        thinking.get("display") in (None, "summarized", "omitted"),
        f"thinking.{kind}.display: Input should be 'summarized' or 'omitted'",
    )
    if kind not in model.thinking:
        raise invalid(_not_supported(kind, model))
    if kind in ("disabled", "between_tools"):
        effort = (request.get("output_config") or {}).get("effort")
        expect(effort not in ("xhigh", "max"), f"thinking.{kind} is not supported with effort '{effort}'.")
        return
    expect(
        request.get("temperature", 1) == 1,
        "`temperature` may only be set to 1 when thinking is enabled or in adaptive mode.",
    )
    top_p = request.get("top_p")
    expect(
        top_p is None or top_p >= 0.95,
        "`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled or in adaptive mode.",
    )
    if kind == "enabled":
        expect(not forced, "Thinking may not be enabled when tool_choice forces tool use.")
        budget = thinking.get("budget_tokens")
        expect(is_integer(budget), "thinking.enabled.budget_tokens: Field required")
        expect(
            budget >= _LEAST_BUDGET,
            f"thinking.enabled.budget_tokens: Input should be greater than or equal to {_LEAST_BUDGET}",
        )
        expect(request["max_tokens"] > budget, "`max_tokens` must be greater than `thinking.budget_tokens`.")


def _not_supported(kind: str, model: Model) -> str:
    if kind == "adaptive":
        return "adaptive thinking is not supported on this model"
    if kind == "disabled" and "between_tools" in model.thinking:
        return (
            '"thinking.type.disabled" is not supported for this model. To turn thinking off on this model, send '
            '"thinking": {"type": "between_tools"}.'
        )
    return (
        f'"thinking.type.{kind}" is not supported for this model. Use "thinking.type.adaptive" and '
        '"output_config.effort" to control thinking behavior.'
    )
