"""A streamed answer put together for a caller who wants it whole."""

import orjson
from google.protobuf.json_format import MessageToDict
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.worker.adapter import AnswerReader
from libs.worker.assembly import whole_answer
from libs.worker.json_object import json_object, plain


class Read(AnswerReader):
    """A reader that has read what a test says."""

    def __init__(self, usage: chat.Usage | None = None) -> None:
        super().__init__()
        self._usage = usage

    def read(self, name: bytes, data: bytes, chunk: chat.ChatCompletionChunk) -> None:
        """Has nothing more to read."""

    def usage(self) -> chat.Usage | None:
        return self._usage


class TestWholeAnswer:
    def test_has_everything_that_was_said_and_is_known(self) -> None:
        reader = Read(chat.Usage(prompt_tokens=3, completion_tokens=4, total_tokens=7))
        reader.finish_reason, reader.native_finish_reason = "length", "max_tokens"
        reader.cost_usd, reader.service_tier = 0.25, "priority"
        reader.upstream_provider = "Elsewhere"
        said = chat.ChatCompletionChunk(id="a1", model="m", provider="p", content="Hi.", reasoning_content="Hm.")
        said.reasoning_details.append(json_object({"type": "reasoning.text"}))
        whole = whole_answer(said, reader)
        details = whole.choices[0].message.reasoning_details
        assert [plain(detail) for detail in details] == [{"type": "reasoning.text"}]
        del details[:]
        answer = MessageToDict(whole, preserving_proto_field_name=True)
        assert answer.pop("created") > 1_700_000_000
        assert answer == {
            "id": "a1",
            "object": "chat.completion",
            "model": "m",
            "provider": "p",
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": "Hi.",
                        "reasoning_content": "Hm.",
                    },
                    "finish_reason": "length",
                    "native_finish_reason": "max_tokens",
                }
            ],
            "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
            "cost_usd": 0.25,
            "service_tier": "priority",
            "metadata": {"upstream_provider": "Elsewhere"},
        }

    def test_has_no_more_than_that(self) -> None:
        reader = Read()
        reader.finish_reason = "stop"
        answer = whole_answer(chat.ChatCompletionChunk(content="Hi."), reader)
        assert not any(answer.HasField(name) for name in ("usage", "cost_usd", "service_tier", "metadata"))
        assert answer.choices[0].finish_reason == "stop"
        assert not answer.choices[0].HasField("native_finish_reason")

    def test_fragments_of_calls_that_alternate_are_joined(self) -> None:
        said = chat.ChatCompletionChunk()
        for index, identity, name, arguments in (
            (0, "c0", "weather", ""),
            (1, "c1", "time", '{"at"'),
            (0, "", "", '{"place": '),
            (1, "", "", ": 1}"),
            (0, "", "", '"Rome"}'),
        ):
            said.tool_calls.add(index=index, id=identity, name=name, arguments=arguments)
        said.tool_calls[1].extra_content.google.thought_signature = "c2ln"
        calls = whole_answer(said, Read()).choices[0].message.tool_calls
        assert [(call.id, call.type, call.function.name) for call in calls] == [
            ("c0", "function", "weather"),
            ("c1", "function", "time"),
        ]
        assert [orjson.loads(call.function.arguments) for call in calls] == [{"place": "Rome"}, {"at": 1}]
        assert [call.extra_content.google.thought_signature for call in calls] == ["", "c2ln"]
