"""The turns of a conversation in the words of generateContent.

Google knows two roles, `user` and `model`; instructions stand apart, and results of tools come from the user.
https://ai.google.dev/gemini-api/docs/function-calling and the page on thought signatures.
"""

from __future__ import annotations

import re
from bisect import bisect, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.worker.unsupported_options import UnsupportedOptions
from services.workers.google_ai.models import ModelRules
from services.workers.google_ai.reasoning_details import signatures

# What Google documents for calls that none of its models made, as in a conversation another provider began.
UNSIGNED = "skip_thought_signature_validator"

_PICTURES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "heic": "image/heic",
    "heif": "image/heif",
}
_PICTURE_KINDS = frozenset(_PICTURES.values())

Part = dict[str, Any]


@dataclass(slots=True)
class _Turn:
    """What one side says without a break; `speaker` is the role, `first` the path of its first message."""

    speaker: str
    first: str
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class _Call:
    """A call that awaits its result; `place` is where it stands among all calls, `at` the path of its message."""

    name: str
    place: int
    at: str


class Contents:
    """A conversation put into words: the turns, and the instructions in `system`.

    What Google does not take is noted in `unsupported`.
    """

    def __init__(
        self, messages: Iterable[chat.ChatMessage], model: str, rules: ModelRules, unsupported: UnsupportedOptions
    ) -> None:
        self.system: list[Part] = []
        self._model = model
        self._rules = rules
        self._unsupported = unsupported
        self._turns: list[_Turn] = []
        self._awaited: dict[str, _Call] = {}
        self._places: list[int] = []
        self._calls = 0
        self._noted: set[str] = set()
        for index, message in enumerate(messages):
            self._add(message, f"messages[{index}]")
        self._require_results()
        if not self._turns:
            unsupported.refuse("messages", "must have one that is not of the role system; add a message of the user.")
        if rules.signs_calls:
            self._stand_in_for_signatures()

    @property
    def turns(self) -> list[dict[str, Any]]:
        """The turns as they are sent."""
        return [
            {"role": "model" if turn.speaker == "assistant" else "user", "parts": turn.parts} for turn in self._turns
        ]

    def _add(self, message: chat.ChatMessage, at: str) -> None:
        match message.role:
            case "system":
                self.system += self._instructions(message, at)
            case "assistant":
                if self._turns and self._turns[-1].speaker == "tool":
                    self._require_results()
                self._say(message.role, at, self._model_parts(message, at))
            case "tool":
                self._add_result(message, at)
            case _:
                self._require_results()
                self._say(message.role, at, self._spoken(message, at))

    def _say(self, speaker: str, at: str, parts: Iterable[Part]) -> None:
        """Adds to the turn of a speaker who has not been interrupted; a turn without parts is none."""
        said = list(parts)
        if not said:
            return
        if self._turns and self._turns[-1].speaker == speaker:
            self._turns[-1].parts += said
        else:
            self._turns.append(_Turn(speaker, at, said))

    def _instructions(self, message: chat.ChatMessage, at: str) -> Iterator[Part]:
        for index, part in enumerate(message.parts):
            if part.WhichOneof("part") != "text":
                self._unsupported.refuse(
                    f"{at}.parts[{index}]", "must be text for Google AI; show pictures in a message of the role user."
                )
            elif part.text:
                yield {"text": part.text}
        if message.content:
            yield {"text": message.content}

    def _spoken(self, message: chat.ChatMessage, at: str) -> Iterator[Part]:
        if message.content:
            yield {"text": message.content}
        for index, part in enumerate(message.parts):
            if part.WhichOneof("part") == "image_url":
                yield from self._picture(part.image_url, f"{at}.parts[{index}].imageUrl")
            elif part.text:
                yield {"text": part.text}

    def _model_parts(self, message: chat.ChatMessage, at: str) -> Iterator[Part]:
        spoken = list(self._spoken(message, at))
        for signature in signatures(message.reasoning_details):
            # It belongs to the last text; where it came alone it goes back alone, with the empty text it came with.
            if not spoken or "text" not in spoken[-1] or "thoughtSignature" in spoken[-1]:
                spoken.append({"text": ""})
            spoken[-1]["thoughtSignature"] = signature
        yield from spoken
        for index, call in enumerate(message.tool_calls):
            self._awaited[call.id] = _Call(call.name, self._calls, at)
            self._calls += 1
            part: Part = {
                "functionCall": {
                    "id": call.id,
                    "name": call.name,
                    "args": self._arguments(call, f"{at}.toolCalls[{index}].arguments"),
                }
            }
            if signature := call.extra_content.google.thought_signature:
                part["thoughtSignature"] = signature
            yield part

    def _arguments(self, call: chat.ToolCall, at: str) -> orjson.Fragment:
        arguments = call.arguments or "{}"
        if not _is_object(arguments):
            self._unsupported.refuse(at, "must be a JSON object for Google AI; send what the model wrote, or {}.")
        return orjson.Fragment(arguments)

    def _add_result(self, message: chat.ChatMessage, at: str) -> None:
        call = self._awaited.pop(message.tool_call_id, None)
        if call is None:
            self._unsupported.refuse(
                f"{at}.toolCallId", "must name a call of the assistant message before it, which no other answers."
            )
            return
        said = list(self._spoken(message, at))
        text = "".join(part["text"] for part in said if "text" in part)
        response: Part = {
            "id": message.tool_call_id,
            "name": call.name,
            "response": orjson.Fragment(text) if _is_object(text) else {"result": text},
        }
        if pictures := [part for part in said if "text" not in part]:
            if not self._rules.signs_calls or not all("inlineData" in picture for picture in pictures):
                self._unsupported.refuse(
                    f"{at}.parts",
                    f"may show {self._model} pictures in data: URLs from Gemini 3 on only; describe them in words.",
                )
            response["parts"] = pictures
        if not self._turns or self._turns[-1].speaker != "tool":
            self._places.clear()
        self._say("tool", at, [{"functionResponse": response}])
        self._sort_in(call.place)

    def _sort_in(self, place: int) -> None:
        """Moves the last result to where its call stands: for models that ignore ids the order tells."""
        index = bisect(self._places, place)
        insort(self._places, place)
        results = self._turns[-1].parts
        results.insert(index, results.pop())

    def _require_results(self) -> None:
        """Refuses calls that have found no result when somebody else speaks, or nobody any more."""
        for at in dict.fromkeys(call.at for call in self._awaited.values()):
            self._unsupported.refuse(
                f"{at}.toolCalls", "must each be answered by a message of the role tool that follows; add the results."
            )
        self._awaited.clear()

    def _stand_in_for_signatures(self) -> None:
        """Lets calls pass that came without a signature, from another provider or a caller who lost it.

        Only the first call of each step since the user last spoke is checked by Google; nothing else is touched.
        """
        for turn in reversed(self._turns):
            if turn.speaker == "user":
                return
            first_call = next((part for part in turn.parts if "functionCall" in part), None)
            if first_call is not None and "thoughtSignature" not in first_call:
                first_call["thoughtSignature"] = UNSIGNED
                self._note(
                    f"{turn.first}.toolCalls",
                    f"The calls came without the thought signature in their extra_content; {self._model} goes on "
                    "without the thoughts that led to them.",
                )

    def _note(self, option: str, reason: str) -> None:
        """Notes what is left out, once: a long conversation has it in every turn."""
        if reason not in self._noted:
            self._noted.add(reason)
            self._unsupported.drop(option, reason)

    def _picture(self, picture: chat.ImageUrl, at: str) -> Iterator[Part]:
        if picture.detail not in ("", "auto"):
            self._note(f"{at}.detail", "Google AI decides itself how closely to look.")
        if not picture.url.startswith("data:"):
            yield {"fileData": _linked(picture.url)}
            return
        head, _, data = picture.url.partition(",")
        kind, *parameters = head.removeprefix("data:").lower().split(";")
        kind = _PICTURES.get(kind.removeprefix("image/"), kind)
        if kind not in _PICTURE_KINDS or "base64" not in parameters:
            self._unsupported.refuse(
                f"{at}.url", "must hold a PNG, JPEG, WebP, HEIC or HEIF picture in base64 for Google AI; convert it."
            )
        else:
            yield {"inlineData": {"mimeType": kind, "data": data}}


def _linked(url: str) -> Part:
    """Points to a picture, which Google fetches itself. Its kind is told where the name says it."""
    kind = _PICTURES.get(re.split("[?#]", url, maxsplit=1)[0].rpartition(".")[2].lower())
    return {"fileUri": url} if kind is None else {"fileUri": url, "mimeType": kind}


def _is_object(text: str) -> bool:
    """Tells whether a text is a JSON object; it is then sent as it stands, digits and all."""
    if not text.lstrip().startswith("{"):
        return False
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
