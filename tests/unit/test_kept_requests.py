"""What is kept of a request too large for its pictures: all of it but those, in any words it came in."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from realmultillm.analytics.v1.chat_content_pb2 import ChatContent
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.anthropic_api.request import to_hub as from_anthropic
from libs.json_members import JsonMembers
from libs.openai_api.request import to_hub as from_openai
from libs.worker.inline_data import lighter_json
from libs.worker.json_object import json_object
from libs.worker.kept_requests import MOST_BYTES, Conversation, Words

PICTURE = base64.b64encode(bytes(range(256)) * 3_100).decode()
URL = f"data:image/png;base64,{PICTURE}"
LIGHT_URL = "data:image/png;base64,AA=="
LONG = "A" * 5_000
# What a person quotes is no picture.
IN_A_TEXT = json.dumps({"data": LONG, "url": f"data:image/png;base64,{LONG}"})


def asked(**message: Any) -> Conversation:
    return Conversation(chat.CreateChatCompletionRequest(messages=[chat.ChatMessage(**message)]))


class TestConversations:
    def test_lose_nothing_but_their_pictures(self) -> None:
        """Every field of a turn is set, so that one which is added some day is not forgotten."""
        turn = chat.ChatMessage(
            role="user",
            content="text",
            parts=[
                chat.ContentPart(text="before"),
                chat.ContentPart(image_url=chat.ImageUrl(url=URL, detail="low")),
                chat.ContentPart(image_url=chat.ImageUrl(url="https://pictures.example/1.png", detail="high")),
            ],
            tool_calls=[chat.ToolCall(id="call-1", name="look", arguments="{}")],
            tool_call_id="call-0",
            reasoning_details=[json_object({"type": "reasoning.text"})],
        )
        assert {field.name for field, _ in turn.ListFields()} == {field.name for field in turn.DESCRIPTOR.fields}
        content, expected = ChatContent(), chat.ChatMessage()
        expected.CopyFrom(turn)
        expected.parts[1].image_url.url = LIGHT_URL
        conversation = Conversation(chat.CreateChatCompletionRequest(messages=[turn]))

        assert conversation.put_lighter_into(content)
        assert list(content.messages) == [expected]
        assert turn.parts[1].image_url.url == URL  # it is still to be sent

    def test_are_heavy_by_their_pictures_alone(self) -> None:
        assert asked(role="user", parts=[chat.ContentPart(image_url=chat.ImageUrl(url=URL))]).heavy
        assert not asked(role="user", content="x" * (MOST_BYTES + 1)).heavy

    def test_without_pictures_have_nothing_to_lose(self) -> None:
        linked = chat.ContentPart(image_url=chat.ImageUrl(url="https://pictures.example/" + "x" * 2_000))
        for conversation in (asked(role="user", content="text"), asked(role="user", parts=[linked])):
            assert not conversation.put_lighter_into(ChatContent())


OPENAI = {
    "messages": [
        {"role": "system", "content": 'Say "data": never'},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": IN_A_TEXT},
                {"type": "image_url", "image_url": {"url": URL}},
                {"type": "image_url", "image_url": {"url": "https://pictures.example/1.png"}},
                {"type": "text", "text": "data: a, b and c. " * 200},
            ],
        },
    ]
}
ANTHROPIC = {
    "max_tokens": 5,
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words " * 500}},
                {"type": "text", "text": "What is this?"},
            ],
        }
    ],
}


def translated(api: str, body: bytes) -> chat.CreateChatCompletionRequest:
    to_hub: Any = from_openai if api == "chat_completions" else from_anthropic
    request: chat.CreateChatCompletionRequest = to_hub(JsonMembers(body), provider="p", model="m").request
    return request


class TestWordsOfOtherApis:
    @pytest.mark.parametrize(("api", "request_"), [("chat_completions", OPENAI), ("messages", ANTHROPIC)])
    @pytest.mark.parametrize("separators", [(",", ":"), (" ,\n", " :\t")], ids=["tight", "wide"])
    def test_lose_nothing_but_their_pictures_and_can_be_translated(
        self, api: str, request_: dict[str, Any], separators: tuple[str, str]
    ) -> None:
        body = json.dumps(request_, separators=separators).encode()
        content, expected = ChatContent(), translated(api, body)
        (picture,) = [part for part in expected.messages[-1].parts if part.image_url.url.startswith("data:")]
        picture.image_url.url = LIGHT_URL

        assert Words(api, body).put_lighter_into(content)
        assert content.dialect == api
        assert len(content.request) < 50_000
        assert translated(api, content.request) == expected

    def test_with_escaped_slashes_lose_them_too(self) -> None:
        body = json.dumps({"data": PICTURE}).replace("/", "\\/").encode()
        assert json.loads(lighter_json(body)) == {"data": "AA=="}

    @given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
    def test_stay_the_same_json_whatever_they_say(self, value: Any) -> None:
        """Texts that look like JSON with pictures in it are not touched: nothing in here is a picture."""
        inner = json.dumps({"said": value, "quoted": IN_A_TEXT})
        for text in (inner, json.dumps(inner)):
            body = json.dumps([value, text]).encode()
            assert lighter_json(body) == body

    def test_that_only_look_like_pictures_take_no_time(self) -> None:
        """Twenty megabytes of places where one might begin; each that is looked at costs."""
        body = b'"data:,' * 3_000_000
        assert lighter_json(body) is body
