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

from libs.worker.json_text import MOST_LEVELS, Reading, as_object, begins_object
from libs.worker.pictures import inline, is_linked
from libs.worker.unsupported_options import UnsupportedOptions
from services.workers.google_ai.model_rules import ModelRules
from services.workers.google_ai.reasoning_details import signatures

# What Google documents for calls that none of its models made, as in a conversation another provider began.
UNSIGNED = "skip_thought_signature_validator"

# By the ending of a name.
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
    """What one side says without a break; `speaker` is the role, `first` the index of its first message."""

    speaker: str
    first: int
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class _Call:
    """A call that awaits its result; `place` is where it stands among all calls, `at` the index of its message."""

    name: str
    place: int
    at: int


class Contents:
    """A conversation put into words: the turns, and the instructions in `system`.

    What Google does not take is noted in `unsupported`. Long conversations are sent again with every turn, so places in
    the request are put into words only where something is noted.
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
        self._results = Reading()
        for index, message in enumerate(messages):
            self._add(index, message)
        self._require_results()
        if not self._turns:
            unsupported.refuse("messages", "must say something beside what the system says; add a message of the user.")
        if rules.signs_calls:
            self._stand_in_for_signatures()

    @property
    def turns(self) -> list[dict[str, Any]]:
        """The turns as they are sent."""
        return [
            {"role": "model" if turn.speaker == "assistant" else "user", "parts": turn.parts} for turn in self._turns
        ]

    def _add(self, index: int, message: chat.ChatMessage) -> None:
        match message.role:
            case "system":
                self.system += self._instructions(index, message)
            case "assistant":
                if self._turns and self._turns[-1].speaker == "tool":
                    self._require_results()
                self._say("assistant", index, self._model_parts(index, message))
            case "tool":
                self._add_result(index, message)
            case speaker:
                self._require_results()
                self._say(speaker, index, self._spoken(index, message))

    def _say(self, speaker: str, index: int, said: list[Part]) -> None:
        """Adds to the turn of a speaker who has not been interrupted; a turn without parts is none."""
        if not said:
            return
        if self._turns and self._turns[-1].speaker == speaker:
            self._turns[-1].parts += said
        else:
            self._turns.append(_Turn(speaker, index, said))

    def _instructions(self, index: int, message: chat.ChatMessage) -> Iterator[Part]:
        for place, part in enumerate(message.parts):
            if part.WhichOneof("part") != "text":
                self._unsupported.refuse(
                    f"messages[{index}].parts[{place}]",
                    "must be text for Google AI; show pictures in a message of the role user.",
                )
            elif part.text:
                yield {"text": part.text}
        if message.content:
            yield {"text": message.content}

    def _spoken(self, index: int, message: chat.ChatMessage) -> list[Part]:
        if text := message.content:
            return [{"text": text}]
        said: list[Part] = []
        for place, part in enumerate(message.parts):
            if part.WhichOneof("part") == "image_url":
                said += self._picture(part.image_url, f"messages[{index}].parts[{place}].imageUrl")
            elif part.text:
                said.append({"text": part.text})
        return said

    def _model_parts(self, index: int, message: chat.ChatMessage) -> list[Part]:
        said = self._spoken(index, message)
        made, details = message.tool_calls, message.reasoning_details
        for signature in signatures(details) if details else ():
            # It belongs to the last text; where it came alone it goes back alone, with the empty text it came with.
            if not said or "text" not in said[-1] or "thoughtSignature" in said[-1]:
                said.append({"text": ""})
            said[-1]["thoughtSignature"] = signature
        for place, call in enumerate(made):
            self._awaited[call.id] = _Call(call.name, self._calls, index)
            self._calls += 1
            arguments = self._arguments(index, place, call)
            part: Part = {"functionCall": {"id": call.id, "name": call.name, "args": arguments}}
            if signature := call.extra_content.google.thought_signature:
                part["thoughtSignature"] = signature
            said.append(part)
        return said

    def _arguments(self, index: int, place: int, call: chat.ToolCall) -> orjson.Fragment | None:
        given = as_object(call.arguments or "{}")
        if given is None:
            self._unsupported.refuse(
                f"messages[{index}].toolCalls[{place}].arguments",
                f"must be a JSON object of at most {MOST_LEVELS} levels for Google AI; send what the model wrote, or "
                "{}.",
            )
        return given

    def _add_result(self, index: int, message: chat.ChatMessage) -> None:
        call = self._awaited.pop(message.tool_call_id, None)
        if call is None:
            self._unsupported.refuse(
                f"messages[{index}].toolCallId",
                "must name a call of the assistant message before it, which no other answers.",
            )
            return
        said = self._spoken(index, message)
        text = "".join(part["text"] for part in said if "text" in part)
        response: Part = {
            "id": message.tool_call_id,
            "name": call.name,
            "response": self._returned(text),
        }
        if pictures := [part for part in said if "text" not in part]:
            self._check_shown(index, pictures)
            response["parts"] = pictures
        if not self._turns or self._turns[-1].speaker != "tool":
            self._places.clear()
        self._say("tool", index, [{"functionResponse": response}])
        self._sort_in(call.place)

    def _returned(self, text: str) -> orjson.Fragment | Part:
        """Gives back a JSON object as one; anything else, and what comes after very much JSON, as a text."""
        given = as_object(text) if begins_object(text) and self._results.allows(text) else None
        return {"result": text} if given is None else given

    def _check_shown(self, index: int, pictures: list[Part]) -> None:
        """Refuses pictures in the result of a tool that Google does not look at."""
        if not self._rules.signs_calls:
            self._unsupported.refuse(
                f"messages[{index}].parts",
                f"cannot show {self._model} pictures; use Gemini 3 or later, or describe them in words.",
            )
        elif not all("inlineData" in picture for picture in pictures):
            self._unsupported.refuse(
                f"messages[{index}].parts",
                "must show pictures in data: URLs; Google AI fetches none for a message of the role tool.",
            )

    def _sort_in(self, place: int) -> None:
        """Moves the last result to where its call stands: for models that ignore ids the order tells."""
        index = bisect(self._places, place)
        insort(self._places, place)
        results = self._turns[-1].parts
        results.insert(index, results.pop())

    def _require_results(self) -> None:
        """Refuses calls that have found no result when somebody else speaks, or nobody any more."""
        if not self._awaited:
            return
        for index in dict.fromkeys(call.at for call in self._awaited.values()):
            self._unsupported.refuse(
                f"messages[{index}].toolCalls",
                "must each be answered by a message of the role tool that follows; add the results.",
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
                self._unsupported.drop_once(
                    f"messages[{turn.first}].toolCalls",
                    f"The calls came without the thought signature in their extra_content; {self._model} goes on "
                    "without the thoughts that led to them.",
                )

    def _picture(self, picture: chat.ImageUrl, at: str) -> list[Part]:
        if picture.detail not in ("", "auto"):
            self._unsupported.drop_once(f"{at}.detail", "Google AI decides itself how closely to look.")
        if is_linked(picture.url):
            return [{"fileData": _linked(picture.url)}]
        shown = inline(picture.url)
        if shown is None or shown.kind not in _PICTURE_KINDS:
            self._unsupported.refuse(
                f"{at}.url", "must hold a PNG, JPEG, WebP, HEIC or HEIF picture in base64 for Google AI; convert it."
            )
            return []
        return [{"inlineData": {"mimeType": shown.kind, "data": shown.data}}]


def _linked(url: str) -> Part:
    """Points to a picture, which Google fetches itself. Its kind is told where the name says it."""
    kind = _PICTURES.get(re.split("[?#]", url, maxsplit=1)[0].rpartition(".")[2].lower())
    return {"fileUri": url} if kind is None else {"fileUri": url, "mimeType": kind}
