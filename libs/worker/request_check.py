"""The rules a chat request must keep, whatever the provider."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from realmultillm.chat.v1 import chat_service_pb2 as chat
from realmultillm.provider.v1 import provider_service_pb2 as provider_pb2

from libs.errors import Violation, refuse_any
from libs.worker.json_text import MOST_BRACKETS, MOST_CHARACTERS, Reading
from libs.worker.reasoning_effort import EFFORTS

_ROLES = ("system", "user", "assistant", "tool")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DETAILS = ("", "auto", "low", "high")
_FORMATS = ("text", "json_object", "json_schema")
# Ids are copied and compared; names are those of tools, though models now and then make up others.
_LONGEST_ID = 256
_LONGEST_NAME = 64
_MAX_STOPS = 16
_MAX_PAGE = 500
_MAX_PAGE_TOKEN = 1_000
_RANGES = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
}


def unfold_tool_calls(request: chat.CreateChatCompletionRequest) -> None:
    """Brings tool calls that were sent back as an answer has them into the form of requests."""
    for message in request.messages:
        for call in message.tool_calls:
            if call.HasField("function"):
                call.name = call.name or call.function.name
                call.arguments = call.arguments or call.function.arguments
                call.ClearField("function")


def check_page(request: provider_pb2.ListModelsRequest) -> None:
    """Raises InvalidRequest with every broken rule."""
    violations = []
    if not 0 <= request.page_size <= _MAX_PAGE:
        violations.append(Violation("pageSize", f"must be between 0 and {_MAX_PAGE}."))
    if len(request.page_token) > _MAX_PAGE_TOKEN or not request.page_token.isprintable():
        violations.append(Violation("pageToken", "must be the nextPageToken of the page before."))
    refuse_any(violations)


def check_chat_request(request: chat.CreateChatCompletionRequest, *, streaming: bool) -> None:
    """Raises InvalidRequest with every broken rule. Looks at all of it, so `check_amounts` comes first."""
    violations = [*_check_envelope(request), *_check_messages(request), *_check_options(request.options)]
    if request.options.stream and not streaming:
        violations.append(
            Violation("options.stream", f"must be false here; POST to /api/chat/{request.provider}/stream to stream.")
        )
    refuse_any(violations)


def _check_envelope(request: chat.CreateChatCompletionRequest) -> Iterator[Violation]:
    if len(request.model) > 200:
        yield Violation("model", "must have at most 200 characters.")
    if len(request.conversation_id) > 128:
        yield Violation("conversationId", "must have at most 128 characters.")
    if len(request.metadata) > 16 or any(len(k) > 64 or len(v) > 512 for k, v in request.metadata.items()):
        yield Violation(
            "metadata", "must have at most 16 entries, keys of at most 64 and values of at most 512 characters."
        )
    if request.fallbacks:
        yield Violation("fallbacks", "are only for the provider `auto`; POST to /api/chat/auto.")


def _check_messages(request: chat.CreateChatCompletionRequest) -> Iterator[Violation]:
    if not request.messages:
        yield Violation("messages", 'must not be empty; send at least {"role": "user", "content": "…"}.')
    calls = _Calls()
    for index, message in enumerate(request.messages):
        at = f"messages[{index}]"
        if message.role not in _ROLES:
            yield Violation(f"{at}.role", f"must be one of {', '.join(_ROLES)}.")
        if message.content and message.parts:
            yield Violation(f"{at}.parts", "cannot be combined with content; send one of them.")
        if not (message.content or message.parts or message.tool_calls or message.role in ("assistant", "tool")):
            yield Violation(f"{at}.content", "must not be empty.")
        if message.role in ("user", "system") and message.parts and all(map(_is_empty, message.parts)):
            yield Violation(f"{at}.parts", "must say something; their texts are all empty.")
        if message.role == "tool":
            yield from calls.check_result(at, message.tool_call_id)
        elif len(message.tool_call_id) > _LONGEST_ID:
            yield Violation(f"{at}.toolCallId", f"must have at most {_LONGEST_ID} characters.")
        if message.tool_calls and message.role != "assistant":
            yield Violation(f"{at}.toolCalls", "belong to a message of the role assistant.")
        elif message.tool_calls:
            yield from calls.check(at, message.tool_calls)
        if message.reasoning_details and message.role != "assistant":
            yield Violation(f"{at}.reasoningDetails", "belong to a message of the role assistant.")
        for place, part in enumerate(message.parts):
            kind = part.WhichOneof("part")
            if kind is None:
                yield Violation(f"{at}.parts[{place}]", "must have text or imageUrl.")
            elif kind == "image_url" and not part.image_url.url.startswith(("https://", "data:image/")):
                yield Violation(f"{at}.parts[{place}].imageUrl.url", "must be an https: URL or a data:image/… URL.")
            elif kind == "image_url" and part.image_url.detail not in _DETAILS:
                yield Violation(f"{at}.parts[{place}].imageUrl.detail", "must be auto, low or high.")


class _Calls:
    """The tool calls of a conversation, as far as it has been read."""

    def __init__(self) -> None:
        self._made: set[str] = set()
        self._arguments = Reading()
        self._readable = True

    def check(self, at: str, calls: Sequence[chat.ToolCall]) -> Iterator[Violation]:
        """Finds what is wrong with the calls of one message, and remembers them."""
        here: set[str] = set()
        for place, call in enumerate(calls):
            if not (call.id and call.name):
                yield Violation(f"{at}.toolCalls[{place}]", "must have the id and the name of the call it was.")
            if len(call.id) > _LONGEST_ID:
                yield Violation(f"{at}.toolCalls[{place}].id", f"must have at most {_LONGEST_ID} characters.")
            elif call.id and call.id in here:
                yield Violation(f"{at}.toolCalls[{place}].id", "must be different from the ids before it.")
            if len(call.name) > _LONGEST_NAME:
                yield Violation(f"{at}.toolCalls[{place}].name", f"must have at most {_LONGEST_NAME} characters.")
            if self._readable and not self._arguments.allows(call.arguments):
                self._readable = False  # once is enough: all that follow are too much as well
                yield Violation(
                    f"{at}.toolCalls[{place}].arguments",
                    f"must have, with those of all calls before it, at most {MOST_CHARACTERS} characters and "
                    f"{MOST_BRACKETS} opening brackets; leave out older turns.",
                )
            here.add(call.id)
        self._made |= here

    def check_result(self, at: str, answered: str) -> Iterator[Violation]:
        """Finds what is wrong with the call that a message says it answers. No provider knows one that nobody made."""
        if not answered:
            yield Violation(f"{at}.toolCallId", "must name the tool call that this message answers.")
        elif answered not in self._made:
            yield Violation(f"{at}.toolCallId", "must name a tool call of an assistant message before it.")


def _is_empty(part: chat.ContentPart) -> bool:
    return part.WhichOneof("part") == "text" and not part.text


def _check_options(options: chat.ChatOptions) -> Iterator[Violation]:
    for name, (low, high) in _RANGES.items():
        # `not (low <= x <= high)` also catches NaN.
        if options.HasField(name) and not low <= getattr(options, name) <= high:
            yield Violation(
                f"options.{chat.ChatOptions.DESCRIPTOR.fields_by_name[name].json_name}",
                f"must be between {low:g} and {high:g}.",
            )
    if options.HasField("max_tokens") and options.max_tokens < 1:
        yield Violation("options.maxTokens", "must be at least 1.")
    if len(options.stop) > _MAX_STOPS or not all(options.stop):
        yield Violation("options.stop", f"must be at most {_MAX_STOPS} texts, none empty.")
    names = [tool.name for tool in options.tools]
    for index, name in enumerate(names):
        if not _NAME.fullmatch(name):
            yield Violation(f"options.tools[{index}].name", "must be 1 to 64 letters, digits, _ or -.")
        elif name in names[:index]:
            yield Violation(f"options.tools[{index}].name", "must be different from the names before it.")
    if options.tool_choice and options.tool_choice not in ("auto", "none", "required", *names):
        yield Violation("options.toolChoice", "must be auto, none, required or the name of one of the tools.")
    if options.tool_choice == "required" and not names:
        yield Violation("options.toolChoice", "must not be required without options.tools; add the tools.")
    if options.reasoning_effort and options.reasoning_effort not in EFFORTS:
        yield Violation("options.reasoningEffort", f"must be one of {', '.join(EFFORTS)}.")
    if options.HasField("response_format"):
        yield from _check_response_format(options.response_format)


def _check_response_format(response_format: chat.ResponseFormat) -> Iterator[Violation]:
    if response_format.type not in _FORMATS:
        yield Violation("options.responseFormat.type", f"must be one of {', '.join(_FORMATS)}.")
    if response_format.type == "json_schema" and not response_format.HasField("json_schema"):
        yield Violation("options.responseFormat.jsonSchema", "must be given for the type json_schema.")
    if response_format.name and not _NAME.fullmatch(response_format.name):
        yield Violation("options.responseFormat.name", "must be 1 to 64 letters, digits, _ or -.")
