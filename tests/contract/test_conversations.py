"""What can be said in a conversation, with every provider: instructions, pictures, tools, forms, thoughts, refusals."""

import json
from typing import Any, ClassVar

import pytest
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.worker.json_object import json_object
from tests.contract.conftest import Person, Worker
from tests.support.chat_requests import chat_request

PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg=="
)
WEATHER = {
    "name": "weather",
    "description": "Tells the weather.",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}
TIME = {"name": "time", "parameters": {"type": "object", "properties": {}}}


def asking(worker: Worker, *messages: dict[str, Any], **options: Any) -> chat.CreateChatCompletionRequest:
    """Makes a request as REST callers write it."""
    model = options.pop("model", "")
    turns = messages or ({"role": "user", "content": "Hello"},)
    return chat_request(
        {"provider": worker.adapter.provider, "model": model, "messages": list(turns), "options": options}
    )


async def answer(worker: Worker, person: Person, request: chat.CreateChatCompletionRequest) -> chat.ChatCompletion:
    """Returns the whole answer."""
    whole: chat.ChatCompletion = await worker.stub.CreateChatCompletion(request, metadata=person.metadata)
    return whole


async def streamed(worker: Worker, person: Person, request: chat.CreateChatCompletionRequest) -> chat.ChatCompletion:
    """Returns a streamed answer, put together as a caller would."""
    whole = chat.ChatCompletion()
    choice = whole.choices.add(index=0)
    async for chunk in worker.stub.StreamChatCompletion(request, metadata=person.metadata):
        choice.message.content += chunk.content
        if chunk.reasoning_content:
            choice.message.reasoning_content += chunk.reasoning_content
        choice.message.reasoning_details.extend(chunk.reasoning_details)
        for fragment in chunk.tool_calls:
            while len(choice.message.tool_calls) <= fragment.index:
                choice.message.tool_calls.add(type="function")
            call = choice.message.tool_calls[fragment.index]
            call.id += fragment.id
            call.function.name += fragment.name
            call.function.arguments += fragment.arguments
            if fragment.HasField("extra_content"):
                call.extra_content.CopyFrom(fragment.extra_content)
        if chunk.HasField("usage"):
            whole.usage.CopyFrom(chunk.usage)
        if chunk.HasField("metadata"):
            whole.metadata.MergeFrom(chunk.metadata)
        if chunk.finish_reason:
            choice.finish_reason, choice.native_finish_reason = chunk.finish_reason, chunk.native_finish_reason
    return whole


both_ways = pytest.mark.parametrize("ask", [answer, streamed], ids=["whole", "streamed"])


def sent_back(message: chat.AssistantMessage) -> chat.ChatMessage:
    """Returns the turn an answer is in the next request, all of it unchanged."""
    turn = chat.ChatMessage(role="assistant", content=message.content, reasoning_details=message.reasoning_details)
    for call in message.tool_calls:
        returned = turn.tool_calls.add(id=call.id, function=call.function)
        if call.HasField("extra_content"):
            returned.extra_content.CopyFrom(call.extra_content)
    return turn


class TestTools:
    @both_ways
    @pytest.mark.parametrize("effort", ["", "high"], ids=["as it is", "thinking"])
    async def test_a_conversation_goes_on_after_parallel_calls(self, worker: Worker, ask: Any, effort: str):
        """The sandbox refuses calls without results, and thoughts or signatures that come back changed or missing."""
        person = worker.new_person()
        options: dict[str, Any] = {"tools": [WEATHER, TIME], "maxTokens": 4000}
        if effort:
            options |= {"reasoningEffort": effort, "model": worker.contract.thinking_model}
        question = {"role": "user", "content": "Use the tools: how is it in Rome?"}
        first = await ask(worker, person, asking(worker, question, **options))
        message = first.choices[0].message
        assert first.choices[0].finish_reason == "tool_calls"
        assert [call.function.name for call in message.tool_calls] == ["weather", "time"]
        assert len({call.id for call in message.tool_calls}) == 2
        for call in message.tool_calls:
            assert isinstance(json.loads(call.function.arguments), dict)

        request = asking(worker, question, **options)
        request.messages.append(sent_back(message))
        for call, result in zip(message.tool_calls, ("Rain.", '{"hour": 12}'), strict=True):
            request.messages.add(role="tool", tool_call_id=call.id, content=result)
        second = await ask(worker, person, request)
        assert second.choices[0].finish_reason == "stop"
        assert second.choices[0].message.content

    async def test_none_may_be_called_where_none_is_chosen(self, worker: Worker):
        request = asking(
            worker, {"role": "user", "content": "Use the tool."}, tools=[WEATHER], toolChoice="none", maxTokens=500
        )
        found = await answer(worker, worker.new_person(), request)
        assert (found.choices[0].finish_reason, len(found.choices[0].message.tool_calls)) == ("stop", 0)

    async def test_one_can_be_chosen_by_name(self, worker: Worker):
        request = asking(worker, tools=[WEATHER, TIME], toolChoice="time", maxTokens=500)
        found = await answer(worker, worker.new_person(), request)
        assert [call.function.name for call in found.choices[0].message.tool_calls] == ["time"]


class TestInstructions:
    async def test_reach_the_provider_from_wherever_they_stand(self, worker: Worker):
        person = worker.new_person()
        turns = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Yes?"},
            {"role": "system", "content": "Speak French."},
            {"role": "user", "content": "Go on."},
        ]
        await answer(worker, person, asking(worker, *turns))
        (received,) = await worker.received(person)
        words = json.dumps(received.body)
        for turn in turns:
            assert words.count(turn["content"]) == 1

    async def test_turns_of_one_role_may_follow_each_other(self, worker: Worker):
        turns = [{"role": "user", "content": "One."}, {"role": "user", "content": "Two."}]
        found = await answer(worker, worker.new_person(), asking(worker, *turns))
        assert found.choices[0].finish_reason == "stop"


class TestPictures:
    @pytest.mark.parametrize("url", [PICTURE, "https://example.com/cat.png"], ids=["data", "url"])
    async def test_reach_the_provider(self, worker: Worker, url: str):
        person = worker.new_person()
        parts = [{"text": "What is it?"}, {"imageUrl": {"url": url}}]
        found = await answer(worker, person, asking(worker, {"role": "user", "parts": parts}))
        assert found.choices[0].finish_reason == "stop"
        (received,) = await worker.received(person)
        assert url.removeprefix("data:image/png;base64,") in json.dumps(received.body)


class TestForm:
    SCHEMA = json_object(
        {
            "type": "object",
            "properties": {"steps": {"type": "string"}, "answer": {"type": "integer"}},
            "required": ["steps", "answer"],
            "additionalProperties": False,
        }
    )

    @both_ways
    async def test_an_answer_fits_the_schema_in_its_order(self, worker: Worker, ask: Any):
        request = asking(worker)
        request.options.response_format.type = "json_schema"
        request.options.response_format.json_schema.CopyFrom(self.SCHEMA)
        found = json.loads((await ask(worker, worker.new_person(), request)).choices[0].message.content)
        assert list(found) == ["steps", "answer"]
        assert isinstance(found["answer"], int)

    @both_ways
    async def test_an_answer_ends_where_a_stop_text_would_begin(self, worker: Worker, ask: Any):
        request = asking(
            worker,
            {"role": "user", "content": "alpha beta gamma"},
            model=worker.contract.other_model,
            stop=["beta"],
        )
        found = await ask(worker, worker.new_person(), request)
        content = found.choices[0].message.content
        assert "alpha" in content
        assert "beta" not in content
        assert found.choices[0].finish_reason == "stop"

    @both_ways
    async def test_too_long_an_answer_is_cut_and_says_so(self, worker: Worker, ask: Any):
        found = await ask(worker, worker.new_person(), asking(worker, maxTokens=3))
        assert found.choices[0].finish_reason == "length"


class TestThoughts:
    @both_ways
    async def test_are_told_apart_from_the_answer_and_counted(self, worker: Worker, ask: Any):
        request = asking(worker, model=worker.contract.thinking_model, reasoningEffort="high", maxTokens=4000)
        found = await ask(worker, worker.new_person(), request)
        message, usage = found.choices[0].message, found.usage
        assert message.content
        assert bool(message.reasoning_content) == worker.contract.tells_reasoning
        assert 0 < usage.completion_tokens_details.reasoning_tokens < usage.completion_tokens
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        assert not usage.estimated


class TestRefusal:
    @both_ways
    async def test_of_the_provider_is_no_success(self, worker: Worker, ask: Any):
        person = worker.new_person()
        await worker.bad_day(person, finish_reason="content_filter")
        found = await ask(worker, person, asking(worker))
        assert found.choices[0].finish_reason == "content_filter"
        assert found.choices[0].native_finish_reason


class TestOptions:
    # Values that nothing else in a request has.
    HINTS: ClassVar = {
        "temperature": 0.4375,
        "topP": 0.9375,
        "seed": 71773,
        "presencePenalty": 0.3125,
        "frequencyPenalty": 0.1875,
    }

    @both_ways
    async def test_what_only_steers_is_sent_or_noted(self, worker: Worker, ask: Any):
        person = worker.new_person()
        found = await ask(worker, person, asking(worker, model=worker.contract.other_model, **self.HINTS))
        noted = {dropped.option.removeprefix("options."): dropped.reason for dropped in found.metadata.dropped_options}
        (received,) = await worker.received(person)
        words = json.dumps(received.body)
        for name, value in self.HINTS.items():
            assert (json.dumps(value) in words) != (name in noted), name
        assert all(reason.endswith(".") for reason in noted.values())
