"""What OpenRouter refuses in a chat request. Parameters it or the model does not know are ignored."""

from hashlib import blake2b
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from deploy.local.sandbox_provider.dialects.openai.shapes import (
    AssistantMessage,
    ChatOptions,
    Content,
    Shape,
    SystemMessage,
    ToolMessage,
    UserMessage,
    first_flaw,
)
from deploy.local.sandbox_provider.dialects.openrouter.errors import refuse
from deploy.local.sandbox_provider.dialects.openrouter.models import CATALOGUE, parameters

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class _DeveloperMessage(Shape):
    role: Literal["developer"]
    content: Content


class _ReasoningDetail(Shape):
    type: Literal["reasoning.text", "reasoning.summary", "reasoning.encrypted"]
    text: str | None = None
    summary: str | None = None
    data: str | None = None
    signature: str | None = None
    format: str | None = None
    id: str | None = None
    index: int | None = None


class _AssistantMessage(AssistantMessage):
    reasoning: str | None = None
    reasoning_content: str | None = None
    reasoning_details: list[_ReasoningDetail] | None = None


class _Function(Shape):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Tool(Shape):
    type: Literal["function"]
    function: _Function


class _Reasoning(Shape):
    effort: Effort | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    exclude: bool | None = None
    enabled: bool | None = None


class _Routing(Shape):
    require_parameters: bool = False


_Message = Annotated[
    SystemMessage | _DeveloperMessage | UserMessage | _AssistantMessage | ToolMessage, Field(discriminator="role")
]


class _Request(ChatOptions):
    model: str | None = None
    messages: list[_Message]
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: int | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    tools: list[_Tool] | None = None
    reasoning: _Reasoning | None = None
    reasoning_effort: Effort | None = None
    provider: _Routing | None = None


def check(payload: Any) -> None:
    """Raises `Refusal` for the first thing wrong with a chat request."""
    if not isinstance(payload, dict):
        raise refuse(400, "Invalid JSON")
    if not payload.get("messages"):
        raise refuse(400, 'Input required: specify "prompt" or "messages"')
    try:
        request = _Request.model_validate(payload)
    except ValidationError as error:
        raise refuse(400, first_flaw(error)) from None
    if not request.model:
        raise refuse(400, "No models provided")
    if request.model not in CATALOGUE:
        raise refuse(400, f"{request.model} is not a valid model ID")
    effort = request.reasoning.effort if request.reasoning else None
    if effort and request.reasoning_effort and effort != request.reasoning_effort:
        raise refuse(400, '"reasoning_effort" and "reasoning.effort" differ; send one of them')
    if request.provider and request.provider.require_parameters:
        _check_parameters(request.model, payload)
    _check_reasoning_details(request)
    _check_tool_results(request)


def _check_parameters(model: str, payload: dict[str, Any]) -> None:
    """Refuses what the model does not take, where the request forbids to pass it over."""
    taken = set(parameters(model)) | {"model", "messages", "stream", "stream_options", "provider"}
    if missing := payload.keys() - taken:
        raise refuse(
            404,
            f"No endpoints found that can handle the requested parameters: {', '.join(sorted(missing))}. To learn more "
            "about provider routing, visit: https://openrouter.ai/docs/provider-routing",
        )


def sign(text: str) -> str:
    """Signs a thought, as Anthropic does."""
    return f"sandbox-{blake2b(text.encode(), digest_size=16).hexdigest()}"


def _check_reasoning_details(request: _Request) -> None:
    """Refuses signed thoughts that did not come back as they were given."""
    for index, message in enumerate(request.messages):
        for detail in getattr(message, "reasoning_details", None) or ():
            if detail.signature is not None and detail.signature != sign(detail.text or ""):
                raise refuse(
                    400,
                    "Provider returned error",
                    {
                        "error_type": "invalid_prompt",
                        "provider_name": "Anthropic",
                        "raw": f"messages.{index}.content.0: Invalid `signature` in `thinking` block",
                    },
                )


def _check_tool_results(request: _Request) -> None:
    """Refuses the result of a call that no message before it made, as all upstream providers do."""
    called: set[str] = set()
    for message in request.messages:
        if isinstance(message, AssistantMessage):
            called |= {call.id for call in message.tool_calls or ()}
        elif isinstance(message, ToolMessage) and message.tool_call_id not in called:
            raise refuse(
                400,
                "Provider returned error",
                {"error_type": "invalid_prompt", "raw": f"No tool call found for {message.tool_call_id}"},
            )
