"""The shapes of a chat request in OpenAI's form, for providers that check shapes and let unknown members pass."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class Shape(BaseModel):
    """Refuses wrong types and missing members."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class TextPart(Shape):
    """A piece of text."""

    type: Literal["text"]
    text: str


class Image(Shape):
    """A picture by address."""

    url: Annotated[str, Field(pattern=r"^(https?://|data:image/)")]


class ImagePart(Shape):
    """A picture in a message."""

    type: Literal["image_url"]
    image_url: Image


Content = str | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]]


class FunctionCall(Shape):
    """Name and arguments of a call."""

    name: str
    arguments: str


class ToolCall(Shape):
    """A call of an earlier turn."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class SystemMessage(Shape):
    """What the system says."""

    role: Literal["system"]
    content: Content


class UserMessage(Shape):
    """What the user says."""

    role: Literal["user"]
    content: Content


class AssistantMessage(Shape):
    """What the model said."""

    role: Literal["assistant"]
    content: Content | None = None
    tool_calls: list[ToolCall] | None = None


class ToolMessage(Shape):
    """What a tool answered."""

    role: Literal["tool"]
    content: Content
    tool_call_id: str


class NamedFunction(Shape):
    """A function by name."""

    name: str


class ToolChoice(Shape):
    """The one tool to call."""

    type: Literal["function"]
    function: NamedFunction


class JsonSchema(Shape):
    """The schema an answer must fit."""

    name: str
    json_schema: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class PlainFormat(Shape):
    """Text, or any JSON object."""

    type: Literal["text", "json_object"]


class SchemaFormat(Shape):
    """JSON that fits a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class ChatOptions(Shape):
    """What a request may say besides its messages and tools, with the ranges all share."""

    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    parallel_tool_calls: bool | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    response_format: Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")] | None = None
    user: str | None = None


def first_flaw(error: ValidationError) -> str:
    """Tells the first thing that is wrong: where, and what."""
    flaw = error.errors()[0]
    name, *rest = flaw["loc"] or ("body",)
    place = f"{name}[{rest[0]}]" if rest and isinstance(rest[0], int) else str(name)
    return f"{place}: {flaw['msg']}"
