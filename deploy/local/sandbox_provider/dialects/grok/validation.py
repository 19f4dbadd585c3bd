"""What xAI refuses in a chat request, as its API reference has it. Members it does not know are ignored."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from deploy.local.sandbox_provider.dialects.grok.errors import invalid, misshapen, unknown_model
from deploy.local.sandbox_provider.dialects.grok.models import MODELS, resolve
from deploy.local.sandbox_provider.dialects.openai.shapes import (
    AssistantMessage,
    ChatOptions,
    Content,
    FunctionCall,
    Shape,
    SystemMessage,
    UserMessage,
    first_flaw,
)


class _ToolCall(Shape):
    id: str
    type: str | None = None
    index: int | None = None
    function: FunctionCall


class _AssistantMessage(AssistantMessage):
    tool_calls: list[_ToolCall] | None = None  # type: ignore[assignment] # laxer than OpenAI's
    reasoning_content: str | None = None


class _ToolMessage(Shape):
    role: Literal["tool"]
    content: Content
    tool_call_id: str | None = None


class _Function(Shape):
    name: str
    description: str | None = None
    parameters: dict[str, Any]


class _Tool(Shape):
    type: Literal["function"]
    function: _Function


_Message = Annotated[SystemMessage | UserMessage | _AssistantMessage | _ToolMessage, Field(discriminator="role")]


class _Request(ChatOptions):
    model: str
    messages: list[_Message]
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**31), lt=2**31)] | None = None
    stop: list[str] | None = None
    tools: Annotated[list[_Tool], Field(max_length=128)] | None = None
    reasoning_effort: str | None = None


_PENALTIES = {"presence_penalty": "presencePenalty", "frequency_penalty": "frequencyPenalty"}


def check(payload: Any) -> None:
    """Raises `Refusal` for the first thing wrong with a chat request."""
    try:
        request = _Request.model_validate(payload)
    except ValidationError as error:
        raise misshapen(first_flaw(error)) from None
    if not request.messages:
        raise invalid("Empty messages.")
    name = resolve(request.model)
    if name is None:
        raise unknown_model(request.model)
    model = MODELS[name]
    if request.stream_options and not request.stream:
        raise invalid("stream_options can only be set when stream is true.")
    if request.stop and len(request.stop) > 4:
        raise invalid("A maximum of 4 stop sequences is supported.")
    for option, told in _PENALTIES.items():
        # Also when it is 0, and by now also on the models that do not reason.
        if getattr(request, option) is not None:
            raise invalid(f"Model {request.model} does not support parameter {told}.")
    if request.stop and model.reasons:
        raise invalid(f"Model {request.model} does not support parameter stop.")
    if request.reasoning_effort is not None and not model.efforts:
        raise invalid(f"Model {request.model} does not support parameter reasoningEffort.")
    if request.reasoning_effort is not None and request.reasoning_effort not in model.efforts:
        raise invalid(f"Invalid reasoning effort: {request.reasoning_effort}")
