"""What is kept of an answer is what the caller was told of it, however it came."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.errors import ProviderError
from libs.json_members import JsonMembers
from libs.worker.adapter import NOT_UNDERSTOOD, Adapter, DialectSpeaker, PassingReader
from libs.worker.assembly import merged, whole_answer
from libs.worker.json_object import json_object
from libs.worker.kept_answer import MOST_CHARACTERS, KeptAnswer
from services.workers.anthropic.adapter import ADAPTER as ANTHROPIC
from services.workers.openai.adapter import ADAPTER as OPENAI
from services.workers.openrouter.adapter import ADAPTER as OPENROUTER

Event = dict[str, Any]

texts = st.text(max_size=5)
fragments = st.builds(
    chat.ToolCallDelta,
    index=st.integers(0, 2),
    id=st.sampled_from([None, "call-1"]),
    name=st.sampled_from([None, "look"]),
    arguments=texts,
    extra_content=st.sampled_from(
        [None, chat.ExtraContent(google=chat.GoogleExtraContent(thought_signature="signature"))]
    ),
)
chunks = st.builds(
    chat.ChatCompletionChunk,
    content=texts,
    reasoning_content=texts,
    tool_calls=st.lists(fragments, max_size=3),
    reasoning_details=st.lists(st.builds(json_object, st.dictionaries(texts, texts, max_size=2)), max_size=2),
)


def kept(answer: KeptAnswer) -> chat.ChatCompletion:
    completion = chat.ChatCompletion()
    answer.put_into(completion)
    return completion


def essence(completion: chat.ChatCompletion) -> chat.ChatCompletion:
    """The part of a completion that is kept."""
    return chat.ChatCompletion(id=completion.id, choices=completion.choices)


class TestChunks:
    @given(said=st.lists(chunks, min_size=1, max_size=8))
    def test_come_to_the_answer_that_is_put_together_of_them(self, said: Sequence[chat.ChatCompletionChunk]) -> None:
        said[0].id = "answer-1"
        reader = ANTHROPIC.answer_reader()
        reader.finish_reason, reader.native_finish_reason = "stop", "end_turn"
        answer = KeptAnswer()
        characters = sum(answer.hear(chunk) for chunk in said)
        answer.choice().end("stop", "end_turn")
        found = kept(answer)

        assert characters == sum(
            len(chunk.content)
            + len(chunk.reasoning_content)
            + sum(len(call.name) + len(call.arguments) for call in chunk.tool_calls)
            for chunk in said
        )
        assert found == essence(whole_answer(merged(said), reader))  # which alters the chunks, so it comes last

    def test_that_are_too_long_together_leave_nothing(self) -> None:
        answer = KeptAnswer()
        answer.hear(chat.ChatCompletionChunk(content="x" * MOST_CHARACTERS))
        assert answer.too_long
        answer.hear(chat.ChatCompletionChunk(content="and more"))
        assert not answer.begun

    def test_without_text_come_to_their_end_too(self) -> None:
        answer, choices = KeptAnswer(), 0
        while not answer.too_long:
            answer.choice(choices)
            choices += 1
        assert choices < 20_000

    def test_of_calls_without_end_come_to_it_too(self) -> None:
        answer, calls = KeptAnswer(), 0
        while not answer.too_long:
            answer.choice().call(calls)
            calls += 1
        assert calls < 20_000


def openai(*deltas: Event, reason: str = "stop", **more: Any) -> list[Event]:
    events = [{"id": "answer-1", "model": "m", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    return [*events, {"choices": [{"index": 0, "delta": {}, "finish_reason": reason, **more}]}]


def called(index: int, arguments: str, **more: Any) -> Event:
    name = {"name": "look"} if more else {}
    return {"tool_calls": [{"index": index, "function": {"arguments": arguments, **name}, **more}]}


OPENAI_TALKS = {
    "text": openai({"role": "assistant", "content": ""}, {"content": "Hé"}, {"content": "llo"}),
    "refusal": openai({"refusal": "I will"}, {"refusal": " not."}),
    "reasoning": openai({"reasoning_content": "Hm"}, {"reasoning": "m."}, {"content": "Yes."}, reason="length"),
    "calls": openai(
        called(0, "", id="call-1"), called(0, '{"a":'), called(1, "{}", id="call-2"), called(0, "1}"), reason="stop"
    ),
    "notes": openai(
        {"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "Hm"}]},
        {"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "m.", "signature": "s"}]},
        {"content": "Yes."},
        native_finish_reason="STOP",
    ),
}


def claude(*blocks: tuple[Event, Sequence[Event]], reason: str = "end_turn", **more: Any) -> list[Event]:
    events: list[Event] = [
        {"type": "message_start", "message": {"id": "answer-1", "model": "m", "usage": {"input_tokens": 3}}}
    ]
    for index, (start, deltas) in enumerate(blocks):
        events += [
            {"type": "content_block_start", "index": index, "content_block": start},
            *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
            {"type": "content_block_stop", "index": index},
        ]
    end = {"type": "message_delta", "delta": {"stop_reason": reason, **more}, "usage": {"output_tokens": 5}}
    return [*events, end, {"type": "message_stop"}]


TEXT = {"type": "text", "text": ""}
THINKING = {"type": "thinking", "thinking": "", "signature": ""}
ANTHROPIC_TALKS = {
    "text": claude((TEXT, [{"type": "text_delta", "text": "Hé"}, {"type": "text_delta", "text": "llo"}])),
    "thinking": claude(
        (THINKING, [{"type": "thinking_delta", "thinking": "Hm"}, {"type": "signature_delta", "signature": "s"}]),
        ({"type": "redacted_thinking", "data": "hidden"}, []),
        (TEXT, [{"type": "text_delta", "text": "Yes."}]),
        (THINKING, [{"type": "thinking_delta", "thinking": "On."}, {"type": "signature_delta", "signature": "t"}]),
        reason="max_tokens",
    ),
    "calls": claude(
        (TEXT, [{"type": "text_delta", "text": "Look:"}]),
        (
            {"type": "tool_use", "id": "call-1", "name": "look", "input": {}},
            [{"type": "input_json_delta", "partial_json": part} for part in ("", '{"a":', "1}")],
        ),
        ({"type": "tool_use", "id": "call-2", "name": "rest", "input": {}}, []),
        reason="tool_use",
    ),
    "refusal": claude(reason="refusal", stop_details={"explanation": "I will not."}),
    "what runs at the provider": claude(
        ({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}, []),
        ({"type": "web_search_tool_result", "tool_use_id": "s", "content": []}, []),
        (TEXT, [{"type": "citations_delta", "citation": {}}, {"type": "text_delta", "text": "Found."}]),
    ),
}
TALKS = [
    *(pytest.param(OPENROUTER, events, id=f"openai, {name}") for name, events in OPENAI_TALKS.items()),
    *(pytest.param(ANTHROPIC, events, id=f"anthropic, {name}") for name, events in ANTHROPIC_TALKS.items()),
]


def listening(adapter: Any, body: bytes = b"{}") -> tuple[PassingReader, KeptAnswer]:
    assert isinstance(adapter, DialectSpeaker)
    reader = adapter.passing_reader(JsonMembers(body))
    reader.kept = KeptAnswer()
    return reader, reader.kept


def as_the_hub_reads_it(adapter: Adapter, events: Sequence[Event]) -> chat.ChatCompletion:
    """What a caller would have been told who does not speak the dialect."""
    reader, said = adapter.answer_reader(), []
    for event in events:
        said.append(chat.ChatCompletionChunk())
        reader.read(b"", orjson.dumps(event), said[-1])
    if reader.finish_reason and not reader.finished:
        reader.read(b"", b"[DONE]", said[-1])
    return essence(whole_answer(merged(said), reader))


class TestEventsThatPass:
    @pytest.mark.parametrize(("adapter", "events"), TALKS)
    def test_are_kept_as_the_hub_reads_them(self, adapter: Adapter, events: Sequence[Event]) -> None:
        reader, answer = listening(adapter)
        for event in events:
            reader.read_event(b"", orjson.dumps(event))
        assert reader.finished
        assert kept(answer) == as_the_hub_reads_it(adapter, events)

    def test_of_several_choices_are_kept_apart(self) -> None:
        reader, answer = listening(OPENAI, b'{"n":2}')
        for index, text in ((1, "Two"), (0, "One"), (1, "!")):
            reader.read_event(b"", orjson.dumps({"id": "a", "choices": [{"index": index, "delta": {"content": text}}]}))
        reader.read_event(b"", orjson.dumps({"choices": [{"index": 1, "delta": {}, "finish_reason": "length"}]}))
        found = kept(answer).choices
        assert [(choice.index, choice.message.content, choice.finish_reason) for choice in found] == [
            (0, "One", ""),
            (1, "Two!", "length"),
        ]

    def test_call_custom_and_old_tools_too(self) -> None:
        reader, answer = listening(OPENAI)
        custom = {"index": 0, "id": "call-1", "type": "custom", "custom": {"name": "run", "input": "print("}}
        for delta in (
            {"tool_calls": [custom]},
            {"tool_calls": [{"index": 0, "custom": {"input": "1)"}}]},
        ):
            reader.read_event(b"", orjson.dumps({"choices": [{"index": 0, "delta": delta}]}))
        for function in ({"name": "old"}, {"arguments": "{}"}):
            reader.read_event(b"", orjson.dumps({"choices": [{"index": 1, "delta": {"function_call": function}}]}))
        calls = [choice.message.tool_calls[0] for choice in kept(answer).choices]
        assert [(call.id, call.function.name, call.function.arguments) for call in calls] == [
            ("call-1", "run", "print(1)"),
            ("", "old", "{}"),
        ]


class TestWholeAnswersThatPass:
    @pytest.mark.parametrize(
        ("adapter", "answer"),
        [
            (
                OPENROUTER,
                {
                    "id": "answer-1",
                    "model": "m",
                    "choices": [
                        {
                            "index": 0,
                            "message": {
                                "role": "assistant",
                                "content": "Look:",
                                "reasoning": "Hmm.",
                                "reasoning_details": [{"type": "reasoning.text", "text": "Hmm.", "signature": "s"}],
                                "tool_calls": [
                                    {"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}}
                                    for name in ("look", "rest")
                                ],
                            },
                            "finish_reason": "tool_calls",
                            "native_finish_reason": "tool_use",
                        }
                    ],
                },
            ),
            (
                ANTHROPIC,
                {
                    "id": "answer-1",
                    "type": "message",
                    "model": "m",
                    "content": [
                        {"type": "thinking", "thinking": "Hmm.", "signature": "s"},
                        {"type": "text", "text": "Look:"},
                        {"type": "tool_use", "id": "call-1", "name": "look", "input": {"a": 1}},
                    ],
                    "stop_reason": "tool_use",
                },
            ),
        ],
        ids=["openai", "anthropic"],
    )
    def test_are_kept_as_the_hub_reads_them(self, adapter: Adapter, answer: Event) -> None:
        body = orjson.dumps(answer)
        reader, found = listening(adapter)
        reader.read_whole(body)
        assert kept(found) == essence(adapter.read_answer(body))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def spoiled(draw: st.DrawFn, events: Sequence[Event]) -> bytes:
    """One of the events, with something else in place of one of its values."""
    event = json.loads(json.dumps(draw(st.sampled_from(list(events)))))
    at: Any = event
    while True:
        key = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if isinstance(at[key], dict | list) and at[key] and draw(st.booleans()):
            at = at[key]
            continue
        at[key] = draw(json_values)
        return orjson.dumps(event)


def outcome(read: Callable[[], object]) -> object:
    try:
        return read()
    except (ProviderError, *NOT_UNDERSTOOD) as error:
        return type(error)


class TestWhatIsNotUnderstood:
    @pytest.mark.parametrize(("adapter", "talks"), [(OPENROUTER, OPENAI_TALKS), (ANTHROPIC, ANTHROPIC_TALKS)])
    @given(data=st.data())
    def test_changes_nothing_for_who_is_told(self, adapter: Any, talks: dict[str, list[Event]], data: st.DataObject):
        events = [event for talk in talks.values() for event in talk]
        said = data.draw(
            st.lists(spoiled(events) | st.sampled_from([orjson.dumps(each) for each in events]), max_size=8)
        )
        keeping, answer = listening(adapter)
        alone = adapter.passing_reader(JsonMembers(b"{}"))
        for event in said:
            assert outcome(lambda: keeping.read_event(b"", event)) == outcome(lambda: alone.read_event(b"", event))  # noqa: B023
        assert (keeping.spoke, keeping.characters, keeping.finished) == (alone.spoke, alone.characters, alone.finished)
        kept(answer)  # can be written down, whatever was understood of it
