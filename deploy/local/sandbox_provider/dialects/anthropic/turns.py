"""What Anthropic refuses in the turns of a conversation: what one turn demands of the next.

Source: its guides to tool use and thinking, and errors quoted in public issue threads.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deploy.local.sandbox_provider.dialects.anthropic.errors import expect, invalid
from deploy.local.sandbox_provider.dialects.anthropic.models import Model
from deploy.local.sandbox_provider.dialects.anthropic.thinking import merged


def check_turns(request: Mapping[str, Any], model: Model) -> None:
    """Raises `Refusal` for tool calls without results, and for calls without the thoughts that led to them."""
    turns = merged(request["messages"])
    called: list[str] = []
    for index, (role, content) in enumerate(turns):
        if role == "user":
            _check_results(content, called, index)
            called = []
        else:
            called = [block["id"] for block in content if block["type"] == "tool_use"]
            expect(len(set(called)) == len(called), f"messages.{index}: `tool_use` ids must be unique")
    if called:
        raise _unanswered(called, len(turns) - 1)
    if turns[-1][0] == "assistant":
        expect(
            model.prefill,
            "This model does not support assistant message prefill. The conversation must end with a user message.",
        )
        last = turns[-1][1]
        expect(
            not last or last[-1]["type"] != "text" or last[-1]["text"] == last[-1]["text"].rstrip(),
            "messages: final assistant content cannot end with trailing whitespace",
        )
    if (request.get("thinking") or {}).get("type") == "enabled":
        _check_thoughts(turns)


def _check_results(content: Sequence[Mapping[str, Any]], called: list[str], index: int) -> None:
    results = [block["tool_use_id"] for block in content if block["type"] == "tool_result"]
    for place, block in enumerate(content):
        if block["type"] == "tool_result" and block["tool_use_id"] not in called:
            raise invalid(
                f"messages.{index}.content.{place}: unexpected `tool_use_id` found in `tool_result` blocks: "
                f"{block['tool_use_id']}. Each `tool_result` block must have a corresponding `tool_use` block in the "
                "previous message."
            )
    expect(len(set(results)) == len(results), f"messages.{index}: each tool_use must have a single result.")
    # Results that stand behind other content do not count as following immediately.
    leading = [block["tool_use_id"] for block in _leading_results(content)]
    missing = [call for call in called if call not in leading]
    if missing:
        raise _unanswered(missing, index - 1)


def _leading_results(content: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for block in content:
        if block["type"] != "tool_result":
            return
        yield block


def _unanswered(calls: Sequence[str], index: int) -> Exception:
    return invalid(
        f"messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after: "
        f"{', '.join(calls)}. Each `tool_use` block must have a corresponding `tool_result` block in the next message."
    )


def _check_thoughts(turns: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> None:
    """Where thinking is on by hand, the assistant turn that a loop of tool calls began with shows its thoughts."""
    first = len(turns)
    while first >= 2 and any(block["type"] == "tool_result" for block in turns[first - 1][1]):
        first -= 2
    if first == len(turns) and turns[-1][0] == "user":
        return
    index = len(turns) - 1 if first == len(turns) else first
    content = turns[index][1]
    kind = content[0]["type"] if content else "text"
    if kind not in ("thinking", "redacted_thinking"):
        raise invalid(
            f"messages.{index}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{kind}`. When "
            "`thinking` is enabled, a final `assistant` message must start with a thinking block (preceeding the "
            "lastmost set of `tool_use` and `tool_result` blocks). We recommend you include thinking blocks from "
            "previous turns. To avoid this requirement, disable `thinking`. Please consult our documentation at "
            "https://docs.claude.com/en/docs/build-with-claude/extended-thinking"
        )
