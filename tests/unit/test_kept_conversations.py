"""Conversations of other APIs as the history shows them: all that can be said, and never a failure."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from realmultillm.analytics.v1.chat_content_pb2 import ChatContent
from realmultillm.chat.v1 import chat_service_pb2 as chat

from services.analytics.kept_conversations import (
    NO_WORDS,
    PICTURES_TOO_LARGE,
    TOO_LARGE,
    UNREADABLE,
    read_conversation,
)

DIALECTS = ("chat_completions", "messages")
TEXT = {"type": "text", "text": "Look"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def shown(dialect: str, **body: Any) -> tuple[list[tuple[str, str]], str]:
    """Returns roles and texts, and what is missing."""
    content = ChatContent(dialect=dialect, request=orjson.dumps(body))
    messages, missing = read_conversation(content)
    texts = [each.content or " ".join(part.text or part.image_url.url for part in each.parts) for each in messages]
    return list(zip([each.role for each in messages], texts, strict=True)), missing


def words(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


class TestOwnWords:
    def test_are_as_they_were_sent(self) -> None:
        said = chat.ChatMessage(role="user", content="Hello")
        assert read_conversation(ChatContent(messages=[said])) == ([said], "")
        assert read_conversation(ChatContent(messages=[said], pictures_left_out=True)) == ([said], PICTURES_TOO_LARGE)
        assert read_conversation(ChatContent(left_out=True)) == ((), TOO_LARGE)


class TestChatCompletions:
    @pytest.mark.parametrize(
        "part",
        [{"type": "input_audio", "input_audio": {}}, {"type": "file", "file": {}}, {"type": ["text"]}, "text", 3],
    )
    def test_show_what_has_words_beside_what_has_none(self, part: Any) -> None:
        assert shown("chat_completions", messages=[words("user", [part, TEXT])]) == ([("user", "Look")], NO_WORDS)

    def test_show_what_only_openai_takes(self) -> None:
        calls = [CALL, {"id": "d", "type": "custom", "custom": {"name": "g", "input": "x"}}]
        said = [
            words("developer", "Be brief"),
            {**words("assistant", None), "tool_calls": calls},
            words("function", "1"),
        ]
        body = {"n": 3, "logprobs": True, "tools": [{"type": "custom"}], "max_tokens": -1}

        assert shown("chat_completions", messages=said, **body) == (
            [("system", "Be brief"), ("assistant", "")],
            NO_WORDS,
        )
        (_, assistant), _ = read_conversation(
            ChatContent(dialect="chat_completions", request=orjson.dumps({"messages": said}))
        )
        assert [call.name for call in assistant.tool_calls] == ["f"]


class TestMessages:
    @pytest.mark.parametrize(
        "block",
        [
            {"type": "image", "source": {"type": "file", "file_id": "f"}},
            {"type": "document", "source": {"type": "base64", "data": "AAAA"}},
            {"type": "container_upload", "file_id": "f"},
            {"type": {}},
            None,
        ],
    )
    def test_show_what_has_words_beside_what_has_none(self, block: Any) -> None:
        assert shown("messages", messages=[words("user", [block, TEXT])]) == ([("user", "Look")], NO_WORDS)
        assert shown("messages", messages=[words("user", [block]), words("user", "Hi")]) == ([("user", "Hi")], NO_WORDS)

    def test_show_tools_and_their_answers(self) -> None:
        used = [{"type": "server_tool_use", "id": "s"}, {"type": "tool_use", "id": "t", "name": "f", "input": {}}]
        result = {"type": "tool_result", "tool_use_id": "t", "content": [TEXT, {"type": "search_result"}]}
        said = [words("user", "?"), words("assistant", used), words("user", [result])]

        told = shown("messages", system=[TEXT], messages=said, container="c", max_tokens="many")

        assert told == ([("system", "Look"), ("user", "?"), ("assistant", ""), ("tool", "Look")], NO_WORDS)

    def test_show_pictures_and_what_stands_for_those_left_out(self) -> None:
        source = {"type": "base64", "media_type": "image/png", "data": "AA=="}
        said = [words("user", [TEXT, {"type": "image", "source": source}])]
        assert shown("messages", messages=said) == ([("user", "Look data:image/png;base64,AA==")], "")


class TestWhatCannotBeShown:
    @pytest.mark.parametrize("dialect", [*DIALECTS, "responses"])
    @pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff", b'{"messages": 1e999}', b"[" * 300_000])
    def test_is_missing(self, dialect: str, body: bytes) -> None:
        messages, missing = read_conversation(ChatContent(dialect=dialect, request=body))
        assert (list(messages), bool(missing)) == ([], True) or (list(messages), missing) == ([], "")

    def test_is_what_the_hub_refuses(self) -> None:
        said = [words("user", "x")] * 100_000
        assert shown("chat_completions", messages=said) == ([], UNREADABLE)


_SCALARS = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=5)
_NAMES = st.sampled_from(
    ["messages", "role", "content", "type", "text", "source", "data", "tool_calls", "function", "id", "system", "input"]
)
_VALUES = st.sampled_from(
    ["user", "assistant", "tool", "system", "text", "image", "tool_use", "tool_result", "thinking"]
)
_JSON = st.recursive(
    _SCALARS | _VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES | st.text(max_size=3), inner, max_size=5),
    max_leaves=15,
)


@pytest.mark.parametrize("dialect", DIALECTS)
@given(messages=st.lists(st.dictionaries(_NAMES, _JSON, max_size=5), max_size=3) | _JSON, system=_JSON)
def test_nothing_that_is_json_makes_it_fail(dialect: str, messages: Any, system: Any) -> None:
    body = orjson.dumps({"messages": messages, "system": system})
    found, missing = read_conversation(ChatContent(dialect=dialect, request=body))
    assert isinstance(missing, str)
    # It goes out as it is.
    assert all(isinstance(each, chat.ChatMessage) for each in found)
