"""The chat completions dialect of OpenAI, which OpenAI, OpenRouter, xAI and most self-hosted servers speak.

An adapter of such a provider says only what differs: the dataclass's fields.
Wire facts: the request and response types of the official `openai` SDK.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs import errors
from libs.errors import ProviderError
from libs.redaction import Secret
from libs.worker.adapter import Credential, ProviderRequest
from libs.worker.retry_after import go_duration, retry_after

FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "error": "error",
}

# Codes of errors that waiting does not mend: the account has no money or no allowance left.
_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "credit_balance_exhausted"})
_CONTEXT_CODES = frozenset({"context_length_exceeded", "string_above_max_length"})
_LARGEST_COUNT = 2**31 - 1
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_.\[\]]{0,60}")


@dataclass(frozen=True, slots=True)
class OpenAIDialect:
    """The adapter of a provider that speaks this dialect.

    `answer_limit_field` is what the provider calls the limit on the answer. `extra_headers` go with every request.
    """

    provider: str
    display_name: str
    endpoint: str
    default_model: str
    answer_limit_field: str = "max_tokens"
    extra_headers: dict[str, str] = field(default_factory=dict)

    def chat_request(
        self, request: chat.CreateChatCompletionRequest, model: str, credential: Credential, *, stream: bool
    ) -> ProviderRequest:
        body: dict[str, Any] = {"model": model, "messages": [_message(message) for message in request.messages]}
        body |= self._options(request.options, credential)
        if stream:
            # Usage comes on streams only when asked for; the padding against traffic analysis doubles small
            # chunks, and inside TLS to one peer it protects nothing here.
            body |= {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}}
        return ProviderRequest("POST", "/chat/completions", self._headers(credential.api_key), orjson.dumps(body))

    def key_test_request(self, api_key: Secret) -> ProviderRequest:
        return ProviderRequest("GET", "/models", self._headers(api_key))

    def _headers(self, api_key: Secret) -> dict[str, str]:
        return {
            "authorization": f"Bearer {api_key.reveal()}",
            "content-type": "application/json",
            **self.extra_headers,
        }

    def _options(self, options: chat.ChatOptions, credential: Credential) -> dict[str, Any]:
        body: dict[str, Any] = {}
        for name in ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty"):
            if options.HasField(name):
                body[name] = getattr(options, name)
        if "temperature" not in body and credential.temperature is not None:
            body["temperature"] = credential.temperature
        limit = options.max_tokens if options.HasField("max_tokens") else credential.max_tokens
        if limit is not None:
            body[self.answer_limit_field] = limit
        if options.stop:
            body["stop"] = list(options.stop)
        if options.tools:
            body["tools"] = [_tool(tool) for tool in options.tools]
        if options.tool_choice:
            body["tool_choice"] = _tool_choice(options.tool_choice)
        if options.HasField("response_format"):
            body["response_format"] = _response_format(options.response_format)
        if options.reasoning_effort:
            body["reasoning_effort"] = options.reasoning_effort
        return body

    def read_answer(self, body: bytes) -> chat.ChatCompletion:
        answer = self._parse(body)
        try:
            return self._completion(answer)
        except (AttributeError, TypeError, ValueError, KeyError):  # JSON of another shape than the dialect's
            raise self._not_understood() from None

    def _completion(self, answer: dict[str, Any]) -> chat.ChatCompletion:
        if answer.get("error"):
            raise self._error_from(answer["error"], status=_status_of(answer["error"]))
        choices = answer.get("choices")
        if not choices:
            raise self._not_understood()
        choice = choices[0]
        said = choice.get("message") or {}
        completion = chat.ChatCompletion(
            id=answer.get("id") or "",
            object="chat.completion",
            created=_count(answer, "created"),
            model=answer.get("model") or "",
            provider=self.provider,
        )
        own = completion.choices.add(
            index=0, finish_reason=FINISH_REASONS.get(choice.get("finish_reason") or "", "error")
        )
        own.message.role = "assistant"
        own.message.content = said.get("content") or said.get("refusal") or ""
        if said.get("refusal"):
            own.finish_reason = "content_filter"
        if reasoning := said.get("reasoning_content"):
            own.message.reasoning_content = reasoning
        for call in said.get("tool_calls") or ():
            function = call.get("function") or {}
            own.message.tool_calls.add(
                id=call.get("id") or "",
                type="function",
                function=chat.FunctionCall(name=function.get("name") or "", arguments=function.get("arguments") or ""),
            )
        if usage := answer.get("usage"):
            completion.usage.CopyFrom(read_usage(usage))
        return completion

    def answer_reader(self) -> OpenAIAnswerReader:
        return OpenAIAnswerReader(self)

    def read_error(self, status: int, header: Callable[[str], str | None], body: bytes) -> ProviderError:
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            answer = None
        error = answer.get("error") if isinstance(answer, dict) else None
        wait = retry_after(header)
        if wait is None and status == 429:
            wait = go_duration(header("x-ratelimit-reset-requests") or "")
        return self._error_from(error if isinstance(error, dict) else {}, status=status, wait=wait)

    def _error_from(self, error: Any, *, status: int, wait: float | None = None) -> ProviderError:
        """Maps status and error object; the provider's own text stays here, it may quote the key or the prompt."""
        error = error if isinstance(error, dict) else {}
        code, name = str(error.get("code") or ""), self.display_name
        if code in _QUOTA_CODES or error.get("type") == "insufficient_quota" or status == 402:
            return errors.ProviderQuotaExhausted(
                f"The {name} account has no quota left; add credit at {name} or store another key.",
                provider=self.provider,
            )
        if status == 401 or code == "invalid_api_key":
            return errors.ProviderKeyRejected(
                f"{name} refused the stored key; store a valid one with POST /api/provider-config/{self.provider}.",
                provider=self.provider,
            )
        if status == 403:
            return errors.ProviderPermissionDenied(
                f"{name} does not allow this key to use this model or feature; use another model or key.",
                provider=self.provider,
            )
        if status == 404 or code == "model_not_found":
            return errors.ModelNotFound(
                f"{name} does not offer this model to this key; choose another model.", provider=self.provider
            )
        if code in _CONTEXT_CODES:
            return errors.ContextLengthExceeded(
                "The conversation is longer than the model's context; shorten it or use a model with a longer one.",
                provider=self.provider,
            )
        if status == 429:
            return errors.ProviderRateLimited(
                f"{name} limits how often this key may ask; try again later.",
                provider=self.provider,
                retry_after=wait,
            )
        if status < 400 or status in (408, 409) or status >= 500:
            return errors.ProviderUnavailable(
                f"{name} could not answer; try again in a moment or use another provider.",
                provider=self.provider,
                retry_after=wait,
            )
        parameter = error.get("param")
        at = f" at `{parameter}`" if isinstance(parameter, str) and _PARAMETER.fullmatch(parameter) else ""
        return errors.ProviderRejectedRequest(
            f"{name} refused the request as invalid{at}; correct it, or use a model that takes it.",
            provider=self.provider,
        )

    def _parse(self, body: bytes) -> dict[str, Any]:
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise self._not_understood() from None
        if not isinstance(answer, dict):
            raise self._not_understood()
        return answer

    def _not_understood(self) -> ProviderError:
        return errors.ProviderUnavailable(
            f"{self.display_name} sent an answer that makes no sense; try again in a moment.", provider=self.provider
        )


class OpenAIAnswerReader:
    """Reads the chunks of one streamed answer."""

    __slots__ = ("_dialect", "_usage", "closed", "finish_reason", "finished", "model")

    def __init__(self, dialect: OpenAIDialect) -> None:
        self._dialect = dialect
        self._usage: chat.Usage | None = None
        self.finish_reason = ""
        self.model = ""
        self.finished = False
        self.closed = False

    def read(self, name: bytes, data: bytes, chunk: chat.ChatCompletionChunk) -> None:  # noqa: ARG002 - one kind of event
        if data == b"[DONE]":
            self.finished = self.closed = True
            return
        event = self._dialect._parse(data)  # noqa: SLF001 - the two classes are one thing
        if event.get("error"):
            raise self._dialect._error_from(event["error"], status=_status_of(event["error"]))  # noqa: SLF001
        if not self.model and event.get("model"):
            chunk.model = event["model"]  # refuses what is no text
            self.model = chunk.model
            chunk.id = event.get("id") or ""
            chunk.provider = self._dialect.provider
        if usage := event.get("usage"):
            self._usage = read_usage(usage)  # cumulative where it comes more than once
        for choice in event.get("choices") or ():
            self._read_delta(choice.get("delta") or {}, chunk)
            if reason := choice.get("finish_reason"):
                self.finish_reason = self.finish_reason or FINISH_REASONS.get(reason, "error")
                # Some compatible servers never send [DONE]; the reason is the end the dialect guarantees.
                self.finished = True

    def _read_delta(self, delta: dict[str, Any], chunk: chat.ChatCompletionChunk) -> None:
        if text := delta.get("content"):
            chunk.content += text
        if refusal := delta.get("refusal"):
            chunk.content += refusal
            self.finish_reason = "content_filter"
        if reasoning := delta.get("reasoning_content"):
            chunk.reasoning_content += reasoning
        for call in delta.get("tool_calls") or ():
            _add_fragment(call, chunk)

    def usage(self) -> chat.Usage | None:
        return self._usage


def _add_fragment(call: dict[str, Any], chunk: chat.ChatCompletionChunk) -> None:
    """Appends a fragment of a tool call, to the fragment before it where that belongs to the same call."""
    function = call.get("function") or {}
    index = call.get("index") or 0
    last = chunk.tool_calls[-1] if chunk.tool_calls else None
    if last is None or last.index != index or call.get("id"):
        last = chunk.tool_calls.add(index=index)
    if call.get("id"):
        last.id = call["id"]
    if function.get("name"):
        last.name = function["name"]
    if function.get("arguments"):
        last.arguments += function["arguments"]


def read_usage(usage: Any) -> chat.Usage:
    """Reads a usage object: prompt tokens include cached ones and completion tokens include reasoning."""
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    return chat.Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=min(prompt + completion, _LARGEST_COUNT),
        prompt_tokens_details=chat.PromptTokensDetails(
            cached_tokens=_count(_member(usage, "prompt_tokens_details"), "cached_tokens")
        ),
        completion_tokens_details=chat.CompletionTokensDetails(
            reasoning_tokens=_count(_member(usage, "completion_tokens_details"), "reasoning_tokens")
        ),
    )


def _count(counts: Any, name: str) -> int:
    """Returns a count; 0 where the provider gives none or nonsense, which must not cost the caller the answer."""
    count = _member(counts, name)
    return int(count) if isinstance(count, int | float) and 0 <= count <= _LARGEST_COUNT else 0


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _status_of(error: Any) -> int:
    """Returns the status an error inside a 200 stands for; 502 when it does not say."""
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 502


def _message(message: chat.ChatMessage) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role}
    wire["content"] = [_part(part) for part in message.parts] if message.parts else message.content
    if message.tool_calls:
        wire["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
        wire["content"] = wire["content"] or None
    if message.tool_call_id:
        wire["tool_call_id"] = message.tool_call_id
    return wire


def _part(part: chat.ContentPart) -> dict[str, Any]:
    if part.WhichOneof("part") == "text":
        return {"type": "text", "text": part.text}
    picture = {"url": part.image_url.url}
    if part.image_url.detail:
        picture["detail"] = part.image_url.detail
    return {"type": "image_url", "image_url": picture}


def _tool(tool: chat.Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.HasField("parameters"):
        function["parameters"] = plain(tool.parameters)
    return {"type": "function", "function": function}


def _tool_choice(choice: str) -> str | dict[str, Any]:
    if choice in ("auto", "none", "required"):
        return choice
    return {"type": "function", "function": {"name": choice}}


def _response_format(response_format: chat.ResponseFormat) -> dict[str, Any]:
    if response_format.type != "json_schema":
        return {"type": response_format.type}
    schema = {"name": response_format.name or "response", "schema": plain(response_format.json_schema), "strict": True}
    return {"type": "json_schema", "json_schema": schema}


def plain(value: Message | Iterable[Any] | Any) -> Any:
    """Turns a protobuf Struct into plain JSON values; whole numbers come back as integers, as they were written."""
    if isinstance(value, Struct):
        return {name: plain(member) for name, member in value.fields.items()}
    if isinstance(value, ListValue):
        return [plain(member) for member in value.values]
    if isinstance(value, Value):
        kind = value.WhichOneof("kind")
        if kind == "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) < 2**53 else number
        return None if kind in (None, "null_value") else plain(getattr(value, kind))
    return value
