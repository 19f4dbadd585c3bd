"""What a model says, collected for the history of its caller while it goes on its way.

Texts are collected as texts: a protobuf message for a few words takes ten times their size for as long as it lives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from io import StringIO

from realmultillm.chat.v1 import chat_service_pb2 as chat
from realmultillm.chat.v1 import json_object_pb2

# An answer of more characters is not kept, so neither is it collected any further.
MOST_CHARACTERS = 1024 * 1024
# What a choice, a call or a note takes besides its texts, so that many empty ones come to their end, too.
_PIECE_CHARACTERS = 100


def _none() -> Iterable[json_object_pb2.JsonObject]:
    return ()


class _Call:
    __slots__ = ("arguments", "extra_content", "id", "name")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments = StringIO()
        self.extra_content: chat.ExtraContent | None = None


class KeptChoice:
    """One of the answers that were asked for; of most chats the only one."""

    __slots__ = (
        "_answer",
        "_calls",
        "_finish_reason",
        "_native_finish_reason",
        "_notes",
        "_reasoning",
        "_text",
        "late_notes",
    )

    def __init__(self, answer: KeptAnswer) -> None:
        self._answer = answer
        self._text = StringIO()
        self._reasoning = StringIO()
        self._calls: dict[int, _Call] = {}
        self._notes: list[json_object_pb2.JsonObject] = []
        self.late_notes: Callable[[], Iterable[json_object_pb2.JsonObject]] = _none
        """Returns the sealed notes that are whole only once nothing more is said."""
        self._finish_reason = ""
        self._native_finish_reason = ""

    @property
    def calls(self) -> int:
        """How many tools have been called."""
        return len(self._calls)

    def say(self, text: str) -> None:
        """Adds to the answer."""
        room = self._answer.room - len(text)
        if room >= 0:  # every token comes this way, so `has_room` is spared
            self._answer.room = room
            self._text.write(text)
        else:
            self._answer.has_room(len(text))

    def think(self, text: str) -> None:
        """Adds to the reasoning."""
        if self._answer.has_room(len(text)):
            self._reasoning.write(text)

    def call(
        self,
        place: int,
        *,
        identity: str = "",
        name: str = "",
        arguments: str = "",
        extra: chat.ExtraContent | None = None,
    ) -> None:
        """Begins the call of a tool, or adds a fragment to the one at that place."""
        call = self._calls.get(place)
        if call is None:
            if not self._answer.has_room(_PIECE_CHARACTERS):
                return
            call = self._calls[place] = _Call()
        if self._answer.has_room(len(identity) + len(name) + len(arguments)):
            call.id = call.id or identity
            call.name = call.name or name
            call.arguments.write(arguments)
            call.extra_content = extra or call.extra_content

    def note(self, note: json_object_pb2.JsonObject) -> None:
        """Adds a sealed note."""
        if self._answer.has_room(_PIECE_CHARACTERS + note.ByteSize()):
            self._notes.append(note)

    def let_go(self) -> None:
        """Forgets what it has."""
        self._text, self._reasoning = StringIO(), StringIO()
        self._calls.clear()
        self._notes.clear()

    def end(self, finish_reason: str, native: str) -> None:
        """Notes why it ended, in the hub's words and in the provider's own."""
        self._finish_reason = finish_reason
        self._native_finish_reason = native

    def put_into(self, choice: chat.Choice) -> None:
        """Writes down all of it."""
        message = choice.message
        message.role = "assistant"
        message.content = self._text.getvalue()
        if reasoning := self._reasoning.getvalue():
            message.reasoning_content = reasoning
        for call in self._calls.values():
            called = message.tool_calls.add(id=call.id, type="function")
            called.function.name = call.name
            called.function.arguments = call.arguments.getvalue()
            if call.extra_content is not None:
                called.extra_content.CopyFrom(call.extra_content)
        message.reasoning_details.extend(self._notes)
        message.reasoning_details.extend(self.late_notes())
        choice.finish_reason = self._finish_reason
        if self._native_finish_reason:
            choice.native_finish_reason = self._native_finish_reason


class KeptAnswer:
    """All that was said in one answer, up to MOST_CHARACTERS."""

    __slots__ = ("_choices", "_first", "id", "room")

    def __init__(self) -> None:
        self.id = ""
        """The provider's id of the answer."""
        self.room = MOST_CHARACTERS
        """How many characters more are collected; below 0 where there were too many."""
        self._first: KeptChoice | None = None
        self._choices: dict[int, KeptChoice] = {}

    @property
    def begun(self) -> bool:
        """True when something was said."""
        return bool(self._choices)

    @property
    def too_long(self) -> bool:
        """True when more was said than is collected; nothing of it is left then."""
        return self.room < 0

    def has_room(self, characters: int) -> bool:
        """Takes room for what is to be added; tells whether there was enough."""
        self.room -= characters
        if self.room >= 0:
            return True
        for choice in self._choices.values():
            choice.let_go()
        self._choices.clear()
        self._first = None
        return False

    def choice(self, place: int = 0) -> KeptChoice:
        """Returns the choice at a place, from 0."""
        choice = self._choices.get(place)
        if choice is None:
            choice = KeptChoice(self)
            if self.has_room(_PIECE_CHARACTERS):
                self._choices[place] = choice
        return choice

    def hear(self, chunk: chat.ChatCompletionChunk) -> int:
        """Adds what a chunk says. Returns the number of characters that the model said in it."""
        choice = self._first
        if choice is None:
            choice = self._first = self.choice()
        if not self.id:
            self.id = chunk.id
        content = chunk.content
        if content:
            choice.say(content)
        reasoning = chunk.reasoning_content
        if reasoning:
            choice.think(reasoning)
        characters = len(content) + len(reasoning)
        for part in chunk.tool_calls:
            name, arguments = part.name, part.arguments
            characters += len(name) + len(arguments)
            extra = part.extra_content if part.HasField("extra_content") else None
            choice.call(part.index, identity=part.id, name=name, arguments=arguments, extra=extra)
        for note in chunk.reasoning_details:
            choice.note(note)
        return characters

    def put_into(self, completion: chat.ChatCompletion) -> None:
        """Writes down the id and the choices, in their order."""
        completion.id = self.id
        for place in sorted(self._choices):
            choice = completion.choices.add()
            choice.index = place
            self._choices[place].put_into(choice)
