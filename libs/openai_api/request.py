"""Chat requests of OpenAI's API in the hub's words, for providers that do not speak its dialect.

What the hub has no words for is refused where it would change what the answer means, and passed over where it would
not: whom a request is for, how it is cached, how fast it is served.
https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from realmultillm.chat.v1 import chat_service_pb2 as chat
from realmultillm.chat.v1 import json_object_pb2

from libs.errors import InvalidRequest, Violation, refuse_any
from libs.json_members import JsonMembers
from libs.worker.json_object import json_object
from libs.worker.request_amounts import MAX_JSON_VALUES, MAX_MESSAGES, MAX_PIECES, MAX_TOOLS

# What may begin an object or a list in all that is read of one request; each takes orjson up to 350 ns, and some stand
# in the texts of messages. Nobody else is served meanwhile.
_MOST_BRACKETS = 1_000_000

_TEXTS = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_CHOICES = ("auto", "none", "required")
_INT_32, _INT_64 = 2**31, 2**63
_NUMBERS = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
# What stands for a text in an answer that was broken off by a rule of content.
_REFUSED = "refusal"

# Members of which only some values can be kept, those of no effect: (name, what is kept, what to do about others).
_NOTHING: tuple[object, ...] = (None, [], {})
_ONLY_OPENAI = "is not available here; leave it out, or use a model of a provider that speaks OpenAI's dialect."
_OF_NO_EFFECT: Mapping[str, tuple[tuple[object, ...], str]] = {
    "n": ((None, 1), "must be 1 for this model; ask several times for several answers."),
    "logprobs": ((None, False), _ONLY_OPENAI),
    "top_logprobs": ((None, 0), _ONLY_OPENAI),
    "logit_bias": (_NOTHING, _ONLY_OPENAI),
    "audio": (_NOTHING, _ONLY_OPENAI),
    "modalities": ((None, [], ["text"]), 'must be ["text"] for this model.'),
    "functions": (_NOTHING, "is OpenAI's old form; use tools."),
    "function_call": ((None,), "is OpenAI's old form; use tool_choice."),
    "web_search_options": ((None,), _ONLY_OPENAI),
    "moderation": ((None,), _ONLY_OPENAI),
}
_OF_OPENAI_ONLY = "It means something to OpenAI only."
# Members that are left out, which the answer tells: (name, what need not be told).
_LEFT_OUT: Mapping[str, tuple[object, ...]] = {
    "verbosity": (None,),
    "prediction": (None,),
    "service_tier": (None, "auto", "default"),
}


@dataclass(frozen=True, slots=True)
class Translated:
    """A request in the hub's words, and how its answer is wanted. `dropped` is what was left out."""

    request: chat.CreateChatCompletionRequest
    streamed: bool
    include_usage: bool
    dropped: Sequence[chat.DroppedOption] = ()


def to_hub(members: JsonMembers, *, provider: str, model: str) -> Translated:
    """Puts a request into the hub's words, for this provider and model; the model of the body is not read.

    The rules of the hub itself are left to `check_amounts` and `check_chat_request`. Raises InvalidRequest with every
    violation of OpenAI's own, by OpenAI's names.
    """
    return _Translation(members).of(provider, model)


class _Translation:
    """Reads one request. Bounds first what it then looks at: a worker serves nobody else meanwhile."""

    def __init__(self, members: JsonMembers) -> None:
        self._members = members
        self._violations: list[Violation] = []
        self._pieces_left = MAX_PIECES
        self._values_left = MAX_JSON_VALUES
        self._brackets_left = _MOST_BRACKETS

    def of(self, provider: str, model: str) -> Translated:
        self._wire = chat.CreateChatCompletionRequest(provider=provider, model=model)
        for name, (kept, rule) in _OF_NO_EFFECT.items():
            value = self._value(name)
            if not any(value == each and type(value) is type(each) for each in kept):
                self._refuse(name, rule)
        self._read_messages()
        self._read_sampling()
        self._read_tools()
        self._read_response_format()
        self._read_labels()
        streamed = self._flag(self._value("stream"), "stream") is True
        stream_options = self._object(self._value("stream_options"), "stream_options")
        asked = self._flag(stream_options.get("include_usage"), "stream_options.include_usage") is True
        refuse_any(self._violations)
        dropped = [
            chat.DroppedOption(option=name, reason=_OF_OPENAI_ONLY)
            for name, unsaid in _LEFT_OUT.items()
            if self._value(name) not in unsaid
        ]
        return Translated(self._wire, streamed, streamed and asked, dropped)

    def _value(self, name: str) -> Any:
        """Returns a member, read; None where there is none. Raises InvalidRequest for more than may be read."""
        raw = self._members.raw(name)
        if not raw:
            return None
        self._brackets_left -= raw.count(b"{") + raw.count(b"[")
        if self._brackets_left < 0:
            raise _too_much(name, f"must have at most {_MOST_BRACKETS} opening brackets; leave out older turns.")
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError:  # what was skipped so far is not all checked
            raise InvalidRequest([Violation(name, "must be valid JSON.")]) from None

    def _refuse(self, at: str, rule: str) -> None:
        self._violations.append(Violation(at, rule))

    def _text(self, value: object, at: str) -> str:
        if isinstance(value, str):
            return value
        if value is not None:
            self._refuse(at, "must be a text.")
        return ""

    def _flag(self, value: object, at: str) -> bool | None:
        if value is None or isinstance(value, bool):
            return value
        self._refuse(at, "must be true or false.")
        return None

    def _whole_number(self, value: object, at: str, limit: int) -> int | None:
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and -limit <= value < limit:
            return value
        self._refuse(at, f"must be a whole number from {-limit} to {limit - 1}.")
        return None

    def _object(self, value: object, at: str) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        if value is not None:
            self._refuse(at, "must be an object.")
        return {}

    def _list(self, value: object, at: str, most: int, rule: str) -> list[Any]:
        if isinstance(value, list):
            if len(value) > most:
                raise _too_much(at, rule)
            return value
        if value is not None:
            self._refuse(at, "must be a list.")
        return []

    def _pieces(self, value: object, at: str) -> list[Any]:
        rule = f"must have at most {MAX_PIECES} parts and tool calls in all messages together."
        found = self._list(value, at, self._pieces_left, rule)
        self._pieces_left -= len(found)
        return found

    def _json(self, value: object, at: str) -> json_object_pb2.JsonObject | None:
        """Takes over an object, members in their order; None where there is none."""
        if value is None:
            return None
        if not isinstance(value, dict):
            self._refuse(at, "must be an object.")
            return None
        self._values_left -= _count_values(value, self._values_left)
        if self._values_left < 0:
            raise _too_much(
                at,
                f"must have, with the JSON objects before it, at most {MAX_JSON_VALUES} members and list values; "
                "make it simpler.",
            )
        try:
            return json_object(value)
        except (OverflowError, ValueError):
            self._refuse(at, "must have fewer levels within each other, and no number beyond a double.")
            return None

    def _read_messages(self) -> None:
        rule = f"must have at most {MAX_MESSAGES} entries."
        for index, said in enumerate(self._list(self._value("messages"), "messages", MAX_MESSAGES, rule)):
            at = f"messages[{index}]"
            if not isinstance(said, dict):
                self._refuse(at, "must be an object.")
                continue
            self._read_message(said, at)

    def _read_message(self, said: dict[str, Any], at: str) -> None:
        turn = self._wire.messages.add()
        role = said.get("role")
        if isinstance(role, str) and role in _TEXTS:
            turn.role = _TEXTS[role]
        else:
            turn.role = "user"  # whatever it may be, this is the one mistake to tell
            form = " `function` is OpenAI's old form; use tool." if role == "function" else ""
            self._refuse(f"{at}.role", f"must be one of {', '.join(_TEXTS)}.{form}")
        self._read_content(said.get("content"), turn, f"{at}.content")
        if (refusal := said.get(_REFUSED)) is not None and not (turn.content or turn.parts):
            turn.content = self._text(refusal, f"{at}.{_REFUSED}")
        for name in ("audio", "function_call"):
            if said.get(name) is not None:
                self._refuse(f"{at}.{name}", _OF_NO_EFFECT[name][1])
        turn.tool_call_id = self._text(said.get("tool_call_id"), f"{at}.tool_call_id")
        for place, call in enumerate(self._pieces(said.get("tool_calls"), f"{at}.tool_calls")):
            self._read_call(call, turn, f"{at}.tool_calls[{place}]")
        for place, detail in enumerate(self._pieces(said.get("reasoning_details"), f"{at}.reasoning_details")):
            if (kept := self._json(detail, f"{at}.reasoning_details[{place}]")) is not None:
                turn.reasoning_details.append(kept)

    def _read_content(self, content: object, turn: chat.ChatMessage, at: str) -> None:
        if isinstance(content, str):
            turn.content = content
            return
        if content is not None and not isinstance(content, list):
            self._refuse(at, "must be a text or a list of parts.")
            return
        for place, part in enumerate(self._pieces(content, at)):
            self._read_part(part, turn, f"{at}[{place}]")

    def _read_part(self, part: object, turn: chat.ChatMessage, at: str) -> None:
        members = self._object(part, at)
        kind = members.get("type")
        if kind in ("text", _REFUSED):
            turn.parts.add(text=self._text(members.get(kind), f"{at}.{kind}"))
        elif kind == "image_url":
            picture = self._object(members.get("image_url"), f"{at}.image_url")
            url = self._text(picture.get("url"), f"{at}.image_url.url")
            detail = self._text(picture.get("detail"), f"{at}.image_url.detail")
            turn.parts.add(image_url=chat.ImageUrl(url=url, detail=detail))
        else:
            self._refuse(f"{at}.type", "must be text or image_url; other kinds are not available for this model.")

    def _read_call(self, call: object, turn: chat.ChatMessage, at: str) -> None:
        members = self._object(call, at)
        if members.get("type", "function") != "function":
            self._refuse(f"{at}.type", "must be function; custom tools are not available for this model.")
            return
        function = self._object(members.get("function"), f"{at}.function")
        made = turn.tool_calls.add(
            id=self._text(members.get("id"), f"{at}.id"),
            name=self._text(function.get("name"), f"{at}.function.name"),
            arguments=self._text(function.get("arguments"), f"{at}.function.arguments"),
        )
        extra = self._object(members.get("extra_content"), f"{at}.extra_content")
        google = self._object(extra.get("google"), f"{at}.extra_content.google")
        signature_at = f"{at}.extra_content.google.thought_signature"
        if signature := self._text(google.get("thought_signature"), signature_at):
            made.extra_content.google.thought_signature = signature

    def _read_sampling(self) -> None:
        options = self._wire.options
        for name in _NUMBERS:
            value = self._value(name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                setattr(options, name, value)
            elif value is not None:
                self._refuse(name, "must be a number.")
        for name in ("max_completion_tokens", "max_tokens"):  # the name of today and that of before
            limit = self._whole_number(self._value(name), name, _INT_32)
            if limit is not None and not options.HasField("max_tokens"):
                options.max_tokens = limit
                if limit < 1:
                    self._refuse(name, "must be at least 1.")
        if (seed := self._whole_number(self._value("seed"), "seed", _INT_64)) is not None:
            options.seed = seed
        options.reasoning_effort = self._text(self._value("reasoning_effort"), "reasoning_effort")
        stop = self._value("stop")
        if isinstance(stop, str):
            options.stop.append(stop)
        else:
            rule = f"must be a text or a list of at most {MAX_TOOLS}."
            for text in self._list(stop, "stop", MAX_TOOLS, rule):
                options.stop.append(self._text(text, "stop"))

    def _read_tools(self) -> None:
        options = self._wire.options
        rule = f"must have at most {MAX_TOOLS} entries."
        for index, tool in enumerate(self._list(self._value("tools"), "tools", MAX_TOOLS, rule)):
            at = f"tools[{index}]"
            members = self._object(tool, at)
            if members.get("type") != "function":
                self._refuse(f"{at}.type", "must be function; other tools are not available for this model.")
                continue
            self._read_tool(self._object(members.get("function"), f"{at}.function"), f"{at}.function")
        if (parallel := self._flag(self._value("parallel_tool_calls"), "parallel_tool_calls")) is not None:
            options.parallel_tool_calls = parallel
        options.tool_choice = self._tool_choice(self._value("tool_choice"))

    def _read_tool(self, function: dict[str, Any], at: str) -> None:
        tool = self._wire.options.tools.add(
            name=self._text(function.get("name"), f"{at}.name"),
            description=self._text(function.get("description"), f"{at}.description"),
            parameters=self._json(function.get("parameters"), f"{at}.parameters"),
        )
        if (strict := self._flag(function.get("strict"), f"{at}.strict")) is not None:
            tool.strict = strict

    def _tool_choice(self, choice: object) -> str:
        if choice is None:
            return ""
        if isinstance(choice, str):
            if choice not in _CHOICES:
                self._refuse("tool_choice", "must be auto, none, required or an object that names a function.")
            return choice if choice in _CHOICES else ""
        members = self._object(choice, "tool_choice")
        if members.get("type") != "function":
            self._refuse("tool_choice.type", "must be function; other choices are not available for this model.")
            return ""
        function = self._object(members.get("function"), "tool_choice.function")
        name = self._text(function.get("name"), "tool_choice.function.name")
        if not name or name in _CHOICES or all(tool.name != name for tool in self._wire.options.tools):
            self._refuse("tool_choice.function.name", f"must be one of the tools, and none of {', '.join(_CHOICES)}.")
            return ""
        return name

    def _read_response_format(self) -> None:
        value = self._value("response_format")
        if value is None:
            return
        members = self._object(value, "response_format")
        wanted = self._wire.options.response_format
        wanted.type = self._text(members.get("type"), "response_format.type")
        if wanted.type != "json_schema":
            return
        at = "response_format.json_schema"
        schema = self._object(members.get("json_schema"), at)
        wanted.name = self._text(schema.get("name"), f"{at}.name")
        if (made := self._json(schema.get("schema"), f"{at}.schema")) is not None:
            wanted.json_schema.CopyFrom(made)
        if (strict := self._flag(schema.get("strict"), f"{at}.strict")) is not None:
            wanted.strict = strict

    def _read_labels(self) -> None:
        """Takes over what the hub has in common with OpenAI: labels, and the wish that nothing be kept."""
        if self._flag(self._value("store"), "store") is False:
            self._wire.store = False
        for name, value in self._object(self._value("metadata"), "metadata").items():
            if isinstance(value, str):
                self._wire.metadata[name] = value
            else:
                self._refuse("metadata", "must have texts for values.")
                return


def _count_values(held: Mapping[str, Any], most: int) -> int:
    """Counts the members and list values of an object at all its levels, and stops soon after `most`."""
    counted = 0
    waiting: list[Collection[Any]] = [held]
    while waiting:
        each = waiting.pop()
        counted += len(each)
        if counted > most:
            break
        waiting.extend(value for value in _values(each) if isinstance(value, dict | list))
    return counted


def _values(held: Collection[Any]) -> Iterator[Any]:
    return iter(held.values() if isinstance(held, dict) else held)


def _too_much(at: str, rule: str) -> InvalidRequest:
    return InvalidRequest([Violation(at, rule)])
