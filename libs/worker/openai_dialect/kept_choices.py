"""Answers of the dialect that pass through, collected for the history as far as the hub has words for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from realmultillm.chat.v1 import json_object_pb2

from libs.worker.adapter import NOT_UNDERSTOOD
from libs.worker.json_facts import pieces, text
from libs.worker.json_object import json_object
from libs.worker.kept_answer import KeptAnswer, KeptChoice
from libs.worker.openai_dialect.answer import FINISH_REASONS
from libs.worker.openai_dialect.call_places import CallPlaces
from libs.worker.openai_dialect.reasoning_details import ReasoningDetails

_FAILED = "error"


class KeptChoices:
    """Hears the choices of one answer, whole or in deltas. What it does not understand is not kept."""

    __slots__ = ("_answer", "_heard")

    def __init__(self, answer: KeptAnswer) -> None:
        self._answer = answer
        self._heard: dict[int, _Heard] = {}

    def hear(self, choice: dict[str, Any], said: dict[str, Any]) -> None:
        """Takes in what is said in a choice."""
        if self._answer.too_long:
            return
        try:
            place = choice.get("index") or 0
            heard = self._heard.get(place)
            if heard is None:
                heard = self._heard[place] = _Heard(self._answer.choice(int(place)))
            heard.take(said)
            if reason := choice.get("finish_reason"):
                heard.end(text(reason), text(choice.get("native_finish_reason")))
        except NOT_UNDERSTOOD:
            pass


class _Heard:
    __slots__ = ("_calls", "_choice", "_details", "_refused")

    def __init__(self, choice: KeptChoice) -> None:
        self._choice = choice
        self._calls: CallPlaces | None = None
        self._details: ReasoningDetails | None = None
        self._refused = False

    def take(self, said: dict[str, Any]) -> None:
        for name, value in said.items():
            if not value or name == "role":
                continue
            match name:
                case "content":
                    self._choice.say(value if isinstance(value, str) else "")
                case "refusal":
                    self._choice.say(text(value))
                    self._refused = True
                case "reasoning_content" | "reasoning":
                    # Some say the same by both names.
                    if name == "reasoning_content" or not said.get("reasoning_content"):
                        self._choice.think(text(value))
                case "tool_calls":
                    self._call(value)
                case "function_call":
                    self._call([{"index": 0, "function": value}])
                case "reasoning_details":
                    self._note(value)
                case _:
                    pass

    def end(self, reason: str, native: str) -> None:
        ours = "content_filter" if self._refused else FINISH_REASONS.get(reason, _FAILED)
        if ours == "stop" and self._choice.calls:
            ours = "tool_calls"
        self._choice.end(ours, native or reason)

    def _call(self, calls: Any) -> None:
        if self._calls is None:
            self._calls = CallPlaces()
        for call in pieces(calls):
            # A custom tool is given a text of its own, not JSON.
            called = call.get("function") or call.get("custom") or {}
            self._choice.call(
                self._calls.of(call),
                identity=text(call.get("id")),
                name=text(called.get("name")),
                arguments=text(called.get("arguments") or called.get("input")),
            )

    def _note(self, details: Any) -> None:
        if self._details is None:
            self._details = ReasoningDetails()
            self._choice.late_notes = self._notes
        for detail in pieces(details):
            self._details.add(detail)

    def _notes(self) -> Iterator[json_object_pb2.JsonObject]:
        for detail in self._details.take() if self._details is not None else ():
            try:
                yield json_object(detail)
            except NOT_UNDERSTOOD:
                continue
