"""Grok's worker against OpenAI's SDK, which xAI says to use: what it sends are its types, what both read is the same.

The one difference is the usage, where xAI counts reasoning beside the completion.
"""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import ValidationError
from xai_sdk.proto import chat_pb2  # type: ignore[import-untyped]

from deploy.local.sandbox_provider.control import SandboxControl
from deploy.local.sandbox_provider.control_messages import Behaviour, Match
from deploy.local.sandbox_provider.server import running
from libs.provider_keys import ProviderKey
from services.workers.grok.adapter import ADAPTER
from services.workers.grok.model_rules import rules_of
from tests.support.full_requests import CONVERSATION, HELLO, OPTIONS, WEATHER, uncovered
from tests.support.openai_types import accepted
from tests.support.wire import asked, body_of, events_of, exchange, read_stream

MODELS = ("grok-4.6", "grok-4.5", "grok-4.3", "grok-4.20", "grok-4-1-fast-non-reasoning", "grok-code-fast-1")
PLAIN = "grok-4-1-fast-non-reasoning"


@pytest.fixture
async def base_url() -> AsyncIterator[str]:
    async with running() as url:
        yield f"{url}/grok/v1"


@pytest.fixture
async def control(base_url: str) -> AsyncIterator[SandboxControl]:
    async with SandboxControl(base_url.removesuffix("/grok/v1")) as client:
        yield client


@pytest.fixture
def key() -> str:
    return f"xai-sandbox-{uuid4().hex}"


def options_for(model: str) -> list[dict[str, Any]]:
    """Returns the options a model does not refuse."""
    return [options for options in OPTIONS if "stop" not in options or rules_of(model, "").stop]


class TestTheReferenceItself:
    @pytest.mark.parametrize("wrong", [{"unknown": 1}, {"reasoning": {"effort": "low"}}, {"reasoning_effort": "x"}])
    def test_refuses_what_the_dialect_has_not(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            accepted({"model": "m", "messages": [{"role": "user", "content": "x"}], **wrong})


class TestRequest:
    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("model", MODELS)
    async def test_conversation_with_tools_and_pictures(
        self, base_url: str, key: str, model: str, stream: bool
    ) -> None:
        request = asked(ADAPTER, CONVERSATION, model=model, key=key, stream=stream)
        accepted(body_of(request))
        assert (await exchange(base_url, request)).status_code == 200

    @pytest.mark.parametrize("model", MODELS)
    async def test_every_option(self, base_url: str, key: str, model: str) -> None:
        for options in options_for(model):
            request = asked(ADAPTER, {**HELLO, "options": options}, model=model, key=key)
            accepted(body_of(request))
            response = await exchange(base_url, request)
            assert response.status_code == 200, (options, response.text)

    def test_no_option_is_forgotten(self) -> None:
        assert uncovered() == set()
        assert options_for(PLAIN) == list(OPTIONS)

    @pytest.mark.parametrize("effort", ["none", "minimal", "low", "medium", "high", "xhigh", "max"])
    @pytest.mark.parametrize("model", [*MODELS, "grok-4.20-multi-agent", "grok-3-mini"])
    async def test_every_effort(self, base_url: str, key: str, model: str, effort: str) -> None:
        request = asked(ADAPTER, {**HELLO, "options": {"reasoningEffort": effort}}, model=model, key=key)
        accepted(body_of(request))
        assert (await exchange(base_url, request)).status_code == 200

    def test_efforts_are_those_xais_own_sdk_knows(self) -> None:
        names = chat_pb2.ReasoningEffort.DESCRIPTOR.values_by_name
        known = {name.removeprefix("EFFORT_").lower() for name in names} - {"invalid_effort"}
        found = {effort for model in (*MODELS, "grok-3-mini", "grok-9") for effort in rules_of(model, "").efforts or ()}
        assert found == known


class TestAnswer:
    REQUESTS = (
        pytest.param(HELLO, {}, id="text"),
        pytest.param(HELLO, {"reasoning": "Thinking... Thinking... "}, id="reasoning"),
        pytest.param(
            {**HELLO, "options": {"tools": [WEATHER, {"name": "clock"}], "toolChoice": "required"}}, {}, id="tools"
        ),
        pytest.param({**HELLO, "options": {"maxTokens": 3}}, {}, id="cut short"),
        pytest.param(HELLO, {"finish_reason": "content_filter"}, id="blocked"),
        pytest.param(HELLO, {"usage": {"prompt_tokens_details": {"cached_tokens": 5}}}, id="cached"),
        pytest.param(
            HELLO,
            {
                "usage": {
                    "prompt_tokens": 100,
                    "completion_tokens": 50,
                    "total_tokens": 150,
                    "completion_tokens_details": {"reasoning_tokens": 30},
                }
            },
            id="reasoning within the completion",
        ),
    )

    @pytest.mark.parametrize(("request_", "behaviour"), REQUESTS)
    async def test_whole_says_the_same_to_both(
        self, base_url: str, control: SandboxControl, key: str, request_: Any, behaviour: Any
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), **behaviour))
        body = (await exchange(base_url, asked(ADAPTER, request_, key=key))).content
        ours, theirs = ADAPTER.read_answer(body), ChatCompletion.model_validate_json(body)
        (choice,), (their_choice,) = ours.choices, theirs.choices
        assert (ours.id, ours.model, choice.finish_reason) == (theirs.id, theirs.model, their_choice.finish_reason)
        assert choice.message.content == (their_choice.message.content or "")
        assert choice.message.reasoning_content == (their_choice.message.model_extra or {}).get("reasoning_content", "")
        their_calls: list[Any] = their_choice.message.tool_calls or []
        assert [(call.id, call.function.arguments) for call in choice.message.tool_calls] == [
            (call.id, call.function.arguments) for call in their_calls
        ]
        assert theirs.usage is not None
        # Whichever way it counts, what is sent and received makes the total.
        assert ours.usage.total_tokens == ours.usage.prompt_tokens + ours.usage.completion_tokens
        assert ours.usage.total_tokens == theirs.usage.total_tokens

    @pytest.mark.parametrize(("request_", "behaviour"), REQUESTS)
    async def test_streamed_says_the_same_to_both(
        self, base_url: str, control: SandboxControl, key: str, request_: Any, behaviour: Any
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), **behaviour))
        body = (await exchange(base_url, asked(ADAPTER, request_, key=key, stream=True))).content
        ours, reader = read_stream(ADAPTER, body)
        chunks = [ChatCompletionChunk.model_validate_json(event) for event in events_of(body)]
        deltas = [choice.delta for each in chunks for choice in each.choices]
        assert ours.content == "".join(delta.content or "" for delta in deltas)
        thoughts = [(delta.model_extra or {}).get("reasoning_content") or "" for delta in deltas]
        assert ours.reasoning_content == "".join(thoughts)
        calls = [call for delta in deltas for call in delta.tool_calls or ()]
        assert [(call.index, call.arguments) for call in ours.tool_calls] == [
            (call.index, call.function and call.function.arguments) for call in calls
        ]
        usage, their_usage = reader.usage(), chunks[-1].usage
        assert usage is not None
        assert their_usage is not None
        assert usage.total_tokens == their_usage.total_tokens

    @pytest.mark.parametrize(("request_", "behaviour"), REQUESTS)
    async def test_whole_and_streamed_are_equal_to_the_token(
        self, base_url: str, control: SandboxControl, key: str, request_: Any, behaviour: Any
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), **behaviour))
        whole = await exchange(base_url, asked(ADAPTER, request_, key=key))
        streamed = await exchange(base_url, asked(ADAPTER, request_, key=key, stream=True))
        answer, (_, reader) = ADAPTER.read_answer(whole.content), read_stream(ADAPTER, streamed.content)
        assert (answer.usage, answer.cost_usd) == (reader.usage(), reader.cost_usd)
        assert answer.cost_usd > 0


class TestKeyAndModels:
    @pytest.mark.parametrize("model", ["", "grok-4.3"])
    async def test_key_of_the_sandbox_is_accepted(self, base_url: str, key: str, model: str) -> None:
        response = await exchange(base_url, ADAPTER.key_test_request(ProviderKey(key), model))
        assert response.status_code == 200
        ADAPTER.read_key_test(response.content, model)

    async def test_models_can_be_asked_for(self, base_url: str, key: str) -> None:
        response = await exchange(base_url, ADAPTER.models_request(ProviderKey(key), 0, ""))
        models, _ = ADAPTER.read_models(response.content)
        assert models
        for model in models:
            request = asked(ADAPTER, HELLO, model=model.id, key=key)
            assert (await exchange(base_url, request)).status_code == 200
