"""What only Anthropic does, through a running worker and the sandbox."""

from typing import Any

import grpc
import pytest

from deploy.local.sandbox_provider.dialects.anthropic.errors import SPEND_LIMIT
from tests.contract.conftest import Worker
from tests.contract.test_conversations import WEATHER, answer, asking, both_ways, sent_back
from tests.support.rpc import error_info, violations

pytestmark = pytest.mark.parametrize("worker", ["anthropic"], indirect=True)

AT_ONCE = {"retry-after": "0"}
BOUND, BY_HAND = "claude-haiku-5-5", "claude-haiku-4-5"


class TestThoughts:
    @both_ways
    @pytest.mark.parametrize("model", [BOUND, BY_HAND, "claude-sonnet-4-6", "claude-opus-5-5", "claude-sonnet-5-5"])
    async def test_come_back_in_place_through_several_calls(self, worker: Worker, ask: Any, model: str) -> None:
        """The sandbox seals each thought, and for newer models to the conversation before it."""
        person = worker.new_person()
        options = {"model": model, "tools": [WEATHER], "reasoningEffort": "high", "maxTokens": 20_000}
        request = asking(
            worker,
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Use the tool."},
            **options,
        )
        for _ in range(3):
            called = (await ask(worker, person, request)).choices[0].message
            assert (len(called.tool_calls), len(called.reasoning_details)) == (1, 1)
            assert called.reasoning_content
            request.messages.append(sent_back(called))
            request.messages.add(role="tool", tool_call_id=called.tool_calls[0].id, content="Rain.")
            request.messages.add(role="assistant", content="It rains.")
            request.messages.add(role="user", content="Use the tool again.")
        assert (await ask(worker, person, request)).choices[0].finish_reason == "tool_calls"

    @both_ways
    async def test_do_not_stand_in_the_way_of_new_instructions(self, worker: Worker, ask: Any) -> None:
        person = worker.new_person()
        turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
        request = asking(worker, *turns, model=BOUND, reasoningEffort="low")
        request.messages.append(sent_back((await ask(worker, person, request)).choices[0].message))
        request.messages.add(role="system", content="Speak French.")
        request.messages.add(role="user", content="Go on.")
        assert (await ask(worker, person, request)).choices[0].finish_reason == "stop"

    async def test_of_another_model_are_left_to_it(self, worker: Worker) -> None:
        person = worker.new_person()
        request = asking(worker, model=BOUND, reasoningEffort="low")
        request.messages.append(sent_back((await answer(worker, person, request)).choices[0].message))
        request.messages.add(role="user", content="Go on.")
        request.model = "claude-opus-5-5"
        request.messages[0].content = "Hello, said otherwise"  # its own thoughts would not bear that
        assert (await answer(worker, person, request)).choices[0].finish_reason == "stop"

    async def test_that_were_changed_are_refused_by_the_provider(self, worker: Worker) -> None:
        person = worker.new_person()
        options = {"model": BOUND, "tools": [WEATHER], "reasoningEffort": "low"}
        request = asking(worker, {"role": "user", "content": "Use the tool."}, **options)
        called = sent_back((await answer(worker, person, request)).choices[0].message)
        (text,) = [each for each in called.reasoning_details[0].members if each.name == "text"]
        text.value.string_value = "Something else."
        request.messages.append(called)
        request.messages.add(role="tool", tool_call_id=called.tool_calls[0].id, content="Rain.")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answer(worker, person, request)
        assert error_info(caught.value).reason == "PROVIDER_REJECTED_REQUEST"
        assert "messages.1.content.0" in str(caught.value.details())


class TestWhatItDoesNotTake:
    @both_ways
    async def test_is_left_out_and_told(self, worker: Worker, ask: Any) -> None:
        found = await ask(worker, worker.new_person(), asking(worker, model=BOUND, temperature=0.5, seed=7))
        dropped = found.metadata.dropped_options
        assert [each.option for each in dropped] == ["options.temperature", "options.seed"]
        assert all(each.reason.endswith(".") for each in dropped)

    async def test_is_refused_before_the_provider_is_asked(self, worker: Worker) -> None:
        person = worker.new_person()
        request = asking(worker, responseFormat={"type": "json_object"}, stop=[" "])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answer(worker, person, request)
        assert sorted(violations(caught.value)) == ["options.responseFormat.type", "options.stop"]
        assert await worker.received(person) == []


class TestTryingAgain:
    @pytest.mark.parametrize(
        ("day", "reason", "attempts"),
        [
            ({"status": 429, "body": SPEND_LIMIT}, "PROVIDER_QUOTA_EXHAUSTED", 1),
            ({"status": 500, "headers": {"x-should-retry": "false"}}, "PROVIDER_UNAVAILABLE", 1),
            ({"status": 400, "headers": AT_ONCE | {"x-should-retry": "true"}}, "PROVIDER_REJECTED_REQUEST", 3),
            ({"status": 529, "headers": AT_ONCE}, "PROVIDER_UNAVAILABLE", 3),
        ],
        ids=["spend limit", "not worth it", "worth it", "overloaded"],
    )
    @both_ways
    async def test_is_as_the_provider_says(
        self, worker: Worker, ask: Any, day: dict[str, Any], reason: str, attempts: int
    ) -> None:
        person = worker.new_person()
        await worker.bad_day(person, **day)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(worker, person, worker.request())
        assert error_info(caught.value).reason == reason
        assert len(await worker.received(person)) == attempts
