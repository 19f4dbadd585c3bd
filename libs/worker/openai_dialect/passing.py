"""Chats that pass through to a provider that speaks the dialect: nothing is touched but what must be.

https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from typing import Any

import orjson
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.json_members import JsonMembers
from libs.worker.adapter import PassingReader
from libs.worker.json_facts import pieces, text
from libs.worker.openai_dialect.answer import InBandError
from libs.worker.openai_dialect.kept_choices import KeptChoices
from libs.worker.openai_dialect.usage import ReadCost, ReadUsage

# What a model says, where it is text.
_TEXTS = ("content", "refusal", "reasoning_content", "reasoning")


def passing_body(body: JsonMembers, model: str, *, ask_for_usage: bool) -> bytes:
    """Returns the body for another model, unless that is empty, and asking for usage; all else is as it came."""
    changes: dict[str, bytes] = {}
    if model and body.value("model") != model:
        changes["model"] = orjson.dumps(model)
    if ask_for_usage and not asks_for_usage(body):
        changes["stream_options"] = _with_usage(body.raw("stream_options"))
    return body.replaced(changes) if changes else body.whole


def asks_for_usage(body: JsonMembers) -> bool:
    """Tells whether the caller wants the usage at the end of a stream."""
    options = body.value("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _with_usage(options: bytes) -> bytes:
    if options.startswith(b"{"):
        return JsonMembers(options).replaced({"include_usage": b"true"})
    return b'{"include_usage":true}' if options in (b"", b"null") else options  # what is no object the provider refuses


class PassingOpenAIReader(PassingReader):
    """Reads the answer to a request for `choices` answers at once.

    `hide_usage` keeps the event from the caller that holds nothing but the usage, for which the caller has not asked.
    """

    __slots__ = (
        "_answered",
        "_choices",
        "_ended",
        "_hide_usage",
        "_in_band_error",
        "_keeping",
        "_read_cost",
        "_read_usage",
        "_usage",
    )

    ending = b"data: [DONE]\n\n"

    def __init__(
        self,
        in_band_error: InBandError,
        read_usage: ReadUsage,
        read_cost: ReadCost,
        *,
        choices: int,
        hide_usage: bool,
    ) -> None:
        super().__init__()
        self._in_band_error = in_band_error
        self._read_usage = read_usage
        self._read_cost = read_cost
        self._choices = choices
        self._hide_usage = hide_usage
        self._usage: Any = None
        self._answered = False
        self._ended: set[int] = set()
        self._keeping: KeptChoices | None = None

    def read_event(self, name: bytes, data: bytes) -> bool:  # noqa: ARG002 - one kind of event
        if data == b"[DONE]":
            self.closed = True
            self.finished = self.finished or self._answered  # nothing said and no reason given is no answer
            return False
        event = orjson.loads(data)
        self._note(event)
        choices = event.get("choices")
        if not choices:
            return not (self._hide_usage and event.get("usage"))
        self._answered = True
        for choice in pieces(choices):
            if choice.get("error"):
                raise self._in_band_error(choice)
            self._hear(choice, choice.get("delta") or {})
            if choice.get("finish_reason"):
                self._ended.add(choice.get("index") or 0)
                self.finished = self.finished or len(self._ended) >= self._choices
        return True

    def read_whole(self, body: bytes) -> None:
        answer = orjson.loads(body)
        self._note(answer)
        choices = pieces(answer["choices"])
        if not choices:
            raise ValueError("an answer without a choice")
        for choice in choices:
            if choice.get("error"):
                raise self._in_band_error(choice)
            self._hear(choice, choice.get("message") or {})
        self.finished = self.closed = True

    def usage(self) -> chat.Usage | None:
        usage = self._read_usage(self._usage)
        if usage is not None and not self.finished:
            usage.estimated = True  # of an answer that was broken off more may have been made than was told
        return usage

    def _note(self, told: dict[str, Any]) -> None:
        if told.get("error") or told.get("object") == "error":
            raise self._in_band_error(told)
        if not self.model:
            self.model = text(told.get("model"))
            if self.kept is not None:
                self.kept.id = text(told.get("id"))
        if tier := text(told.get("service_tier")):
            self.service_tier = tier
        if (usage := told.get("usage")) and isinstance(usage, dict):
            self._usage = usage  # of all that was said so far; some send it with every event
            self.cost_usd = self._read_cost(usage)

    def _hear(self, choice: dict[str, Any], said: dict[str, Any]) -> None:
        for name, value in said.items():
            if not value or name == "role":
                continue
            self.spoke = True
            if name == "tool_calls":
                self.characters += sum(map(_length_of_call, pieces(value)))
            elif name in _TEXTS and isinstance(value, str):
                self.characters += len(value)
        if self.kept is not None:
            if self._keeping is None:
                self._keeping = KeptChoices(self.kept)
            self._keeping.hear(choice, said)


def _length_of_call(call: Any) -> int:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return 0
    return len(text(function.get("name"))) + len(text(function.get("arguments")))
