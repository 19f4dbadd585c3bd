"""The rules a comparison must keep, beside those of every chat."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from realmultillm.chat.v1 import chat_service_pb2 as chat
from realmultillm.chat.v1 import comparison_service_pb2 as comparison

from libs.errors import InvalidRequest, Violation, refuse_any
from libs.worker.request_amounts import check_amounts
from libs.worker.request_check import check_chat_request, unfold_tool_calls

_FEWEST_TARGETS, _MOST_TARGETS = 2, 10
_SHORTEST_MS, _LONGEST_MS = 100, 600_000
_LONGEST_MODEL = 200


def check_comparison(
    request: comparison.CompareChatCompletionsRequest, *, providers: Collection[str], streaming: bool
) -> None:
    """Raises InvalidRequest with every broken rule. `providers` are the ids there are.

    What each worker would refuse in the same way is refused here once.
    """
    # The path of the streaming method is made of it, for who asks to stream on the other one.
    common = chat.CreateChatCompletionRequest(
        provider="compare",
        messages=request.messages,
        options=request.options,
        conversation_id=request.conversation_id,
        metadata=request.metadata,
    )
    violations = list(_check_targets(request, providers))
    try:
        check_amounts(common)
        unfold_tool_calls(common)
        check_chat_request(common, streaming=streaming)
    except InvalidRequest as error:
        violations += error.violations
    refuse_any(violations)


def _check_targets(
    request: comparison.CompareChatCompletionsRequest, providers: Collection[str]
) -> Iterator[Violation]:
    if not _FEWEST_TARGETS <= len(request.targets) <= _MOST_TARGETS:
        yield Violation("targets", f"must be {_FEWEST_TARGETS} to {_MOST_TARGETS} models to ask.")
    for place, target in enumerate(request.targets[:_MOST_TARGETS]):
        if target.provider not in providers:
            yield Violation(f"targets[{place}].provider", f"must be one of {', '.join(providers)}.")
        if len(target.model) > _LONGEST_MODEL:
            yield Violation(f"targets[{place}].model", f"must have at most {_LONGEST_MODEL} characters.")
    if request.HasField("timeout_ms") and not _SHORTEST_MS <= request.timeout_ms <= _LONGEST_MS:
        yield Violation("timeoutMs", f"must be between {_SHORTEST_MS} and {_LONGEST_MS}.")
