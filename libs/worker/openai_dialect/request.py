"""A chat request in the words of the dialect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.worker.adapter import Credential
from libs.worker.json_object import plain
from libs.worker.openai_dialect.model_rules import ModelRules
from libs.worker.reasoning_effort import settle
from libs.worker.unsupported_options import UnsupportedOptions

# Puts the effort into the body in the provider's form.
AskForEffort = Callable[[dict[str, Any], str], None]
# Tells whether a reasoning detail is one this provider gave; those of others mean nothing to it.
GaveDetail = Callable[[dict[str, Any]], bool]
# Changes a finished body so that the provider takes it, and notes what had to go.
FitBody = Callable[[dict[str, Any], UnsupportedOptions], None]

# Name in the dialect, path in the request, and what notes call it.
_SAMPLING = (
    ("temperature", "options.temperature", "temperature"),
    ("top_p", "options.topP", "topP"),
    ("presence_penalty", "options.presencePenalty", "penalties"),
    ("frequency_penalty", "options.frequencyPenalty", "penalties"),
)


def reasoning_effort_field(body: dict[str, Any], effort: str) -> None:
    """OpenAI's form: a field of its own."""
    body["reasoning_effort"] = effort


def as_it_is(body: dict[str, Any], unsupported: UnsupportedOptions) -> None:
    """Of a provider that takes every body of the dialect."""


def message(turn: chat.ChatMessage, rules: ModelRules, gave_detail: GaveDetail | None) -> dict[str, Any]:
    """Puts one turn into words. `gave_detail` is None where the provider takes no reasoning details back."""
    wire: dict[str, Any] = {"role": rules.system_role if turn.role == "system" else turn.role}
    wire["content"] = [_part(part) for part in turn.parts] if turn.parts else turn.content
    if turn.tool_calls:
        wire["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in turn.tool_calls
        ]
        wire["content"] = wire["content"] or None
    if turn.tool_call_id:
        wire["tool_call_id"] = turn.tool_call_id
    if gave_detail is not None and turn.reasoning_details:
        details = [detail for detail in map(plain, turn.reasoning_details) if gave_detail(detail)]
        if details:
            wire["reasoning_details"] = details
    return wire


def _part(part: chat.ContentPart) -> dict[str, Any]:
    if part.WhichOneof("part") == "text":
        return {"type": "text", "text": part.text}
    picture = {"url": part.image_url.url}
    if part.image_url.detail:
        picture["detail"] = part.image_url.detail
    return {"type": "image_url", "image_url": picture}


class OptionsInWords:
    """Puts the options of one request into words, by the rules of its model."""

    def __init__(self, model: str, rules: ModelRules, unsupported: UnsupportedOptions) -> None:
        self._model = model
        self._rules = rules
        self._unsupported = unsupported

    def body(
        self, options: chat.ChatOptions, credential: Credential, limit_field: str, ask_for_effort: AskForEffort
    ) -> dict[str, Any]:
        """Returns the fields of the body."""
        body: dict[str, Any] = {}
        self._sampling(body, options, credential)
        if options.HasField("seed"):
            body["seed"] = options.seed
        limit = options.max_tokens if options.HasField("max_tokens") else credential.max_tokens
        if limit is not None:
            body[limit_field] = limit
        if options.stop:
            self._stops(body, options.stop)
        if options.tools:
            body["tools"] = [_tool(tool) for tool in options.tools]
        if options.tool_choice and options.tools:
            body["tool_choice"] = _tool_choice(options.tool_choice)
        if options.HasField("parallel_tool_calls") and options.tools:
            body["parallel_tool_calls"] = options.parallel_tool_calls
        if options.HasField("response_format"):
            body["response_format"] = _response_format(options.response_format)
        if options.reasoning_effort:
            self._effort(body, options.reasoning_effort, ask_for_effort)
        return body

    def _sampling(self, body: dict[str, Any], options: chat.ChatOptions, credential: Credential) -> None:
        model, rules = self._model, self._rules
        for name, path, kind in _SAMPLING:
            if not options.HasField(name):
                continue
            value, penalty = getattr(options, name), kind == "penalties"
            if rules.penalties if penalty else rules.sampling:
                body[name] = value
            elif value or not penalty:  # a penalty of 0 is none
                self._unsupported.drop(path, f"{model} takes no {kind}.")
        if credential.temperature is not None and not options.HasField("temperature"):
            if rules.sampling:
                body["temperature"] = credential.temperature
            else:
                self._unsupported.drop("temperature", f"{model} takes no temperature.")

    def _stops(self, body: dict[str, Any], stops: Sequence[str]) -> None:
        most = self._rules.most_stops
        if not self._rules.stop:
            self._unsupported.refuse("options.stop", f"{self._model} takes none; leave it out or use another model.")
        elif most is not None and len(stops) > most:
            self._unsupported.refuse("options.stop", f"must have at most {most} texts for {self._model}; send fewer.")
        else:
            body["stop"] = list(stops)

    def _effort(self, body: dict[str, Any], effort: str, ask_for_effort: AskForEffort) -> None:
        offered = self._rules.efforts
        if offered is None:
            ask_for_effort(body, effort)
        elif taken := settle(effort, offered, self._model, self._unsupported):
            ask_for_effort(body, taken)


def _tool(tool: chat.Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.HasField("parameters"):
        function["parameters"] = plain(tool.parameters)
    if tool.HasField("strict"):
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _tool_choice(choice: str) -> str | dict[str, Any]:
    if choice in ("auto", "none", "required"):
        return choice
    return {"type": "function", "function": {"name": choice}}


def _response_format(response_format: chat.ResponseFormat) -> dict[str, Any]:
    if response_format.type != "json_schema":
        return {"type": response_format.type}
    schema: dict[str, Any] = {
        "name": response_format.name or "response",
        "schema": plain(response_format.json_schema),
    }
    if response_format.HasField("strict"):
        schema["strict"] = response_format.strict
    return {"type": "json_schema", "json_schema": schema}
