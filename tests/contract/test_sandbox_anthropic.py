"""The sandbox's Anthropic dialect, judged by Anthropic's own SDK and, where that hides the wire, by plain HTTP."""

import json
from collections.abc import AsyncIterator
from typing import Any, ClassVar
from uuid import uuid4

import anthropic
import httpx
import pytest
from anthropic.types import Message, ModelInfo

from deploy.local.sandbox_provider.control import SandboxControl
from deploy.local.sandbox_provider.control_messages import Behaviour, Match
from deploy.local.sandbox_provider.dialects.anthropic.errors import LOW_CREDIT, SPEND_LIMIT

HELLO: list[Any] = [{"role": "user", "content": "hello, wörld"}]
WEATHER: dict[str, Any] = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
TIME: dict[str, Any] = {"name": "time", "input_schema": {"type": "object"}}
HAIKU, MANUAL = "claude-haiku-5-5", "claude-haiku-4-5"
REDACTED = "ANTHROPIC_MAGIC_STRING_TRIGGER_REDACTED_THINKING_46C9A13E"


@pytest.fixture
def key() -> str:
    return f"sk-ant-sandbox-{uuid4().hex}"


@pytest.fixture
async def sdk(sandbox_url: str, key: str) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        api_key=key, auth_token=None, base_url=f"{sandbox_url}/anthropic", max_retries=0
    ) as client:
        yield client


@pytest.fixture
async def control(sandbox_url: str) -> AsyncIterator[SandboxControl]:
    async with SandboxControl(sandbox_url) as control:
        yield control


@pytest.fixture
async def http(sandbox_url: str, key: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    async with httpx.AsyncClient(base_url=f"{sandbox_url}/anthropic/v1", headers=headers) as client:
        yield client


async def say(client: anthropic.AsyncAnthropic, **options: Any) -> Message:
    message: Message = await client.messages.create(**{"model": HAIKU, "max_tokens": 500, "messages": HELLO, **options})
    return message


async def stream(client: anthropic.AsyncAnthropic, **options: Any) -> Message:
    """Lets the SDK put a streamed message together."""
    request = {"model": HAIKU, "max_tokens": 500, "messages": HELLO, **options}
    async with client.messages.stream(**request) as events:
        return await events.get_final_message()


async def events_of(http: httpx.AsyncClient, **options: Any) -> list[tuple[str, dict[str, Any]]]:
    """Returns name and data of each event of a stream."""
    request = {"model": HAIKU, "max_tokens": 500, "messages": HELLO, "stream": True, **options}
    response = await http.post("/messages", json=request)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8", response.text
    events = []
    for event in response.text.strip().split("\n\n"):
        name, data = event.split("\n")
        events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


async def refused(http: httpx.AsyncClient, **options: Any) -> str:
    """Returns the words an invalid request is refused with."""
    request = {"model": MANUAL, "max_tokens": 4096, "messages": HELLO, **options}
    response = await http.post("/messages", json={name: value for name, value in request.items() if value != "absent"})
    body = response.json()
    assert (response.status_code, body["type"]) == (400, "error"), body
    assert body["error"]["type"] == "invalid_request_error"
    assert body["request_id"] == response.headers["request-id"]
    message: str = body["error"]["message"]
    return message


class TestMessage:
    async def test_is_what_the_sdk_expects(self, sdk: anthropic.AsyncAnthropic) -> None:
        message = await say(sdk)
        assert message.content[0].type == "text"
        assert "hello, wörld" in message.content[0].text
        assert (message.type, message.role, message.model) == ("message", "assistant", HAIKU)
        assert (message.stop_reason, message.stop_sequence, message.stop_details) == ("end_turn", None, None)
        assert message.id.startswith("msg_")
        assert message.usage.input_tokens > 0
        assert message.usage.output_tokens > 0
        Message.model_validate(message.model_dump(warnings="error"), strict=True)

    async def test_same_request_gets_the_same_bytes(self, http: httpx.AsyncClient) -> None:
        request = {"model": HAIKU, "max_tokens": 500, "messages": HELLO}
        first, second = [await http.post("/messages", json=request) for _ in range(2)]
        assert first.content == second.content

    async def test_an_alias_is_answered_by_its_model(self, sdk: anthropic.AsyncAnthropic) -> None:
        assert (await say(sdk, model=MANUAL)).model == "claude-haiku-4-5-20251001"

    async def test_ends_at_the_token_limit(self, sdk: anthropic.AsyncAnthropic) -> None:
        message = await say(sdk, max_tokens=3)
        assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 3)

    async def test_ends_at_a_stop_sequence_and_names_it(self, sdk: anthropic.AsyncAnthropic) -> None:
        message = await say(sdk, stop_sequences=["nowhere", "sandbox"])
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "sandbox")
        assert message.content[0].type == "text"
        assert "sandbox" not in message.content[0].text

    async def test_a_stop_sequence_that_never_came_ends_nothing(self, sdk: anthropic.AsyncAnthropic) -> None:
        assert (await say(sdk, stop_sequences=["nowhere"])).stop_reason == "end_turn"

    async def test_can_decline(self, sdk: anthropic.AsyncAnthropic, control: SandboxControl, key: str) -> None:
        await control.behave(Behaviour(match=Match(key=key), finish_reason="content_filter", content=""))
        for message in (await say(sdk), await stream(sdk)):
            assert message.stop_reason == "refusal"
            assert message.content == []
            assert message.stop_details is not None
            assert message.stop_details.explanation

    async def test_holds_json_that_fits_a_schema(self, sdk: anthropic.AsyncAnthropic) -> None:
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}
        message = await say(sdk, output_config={"format": {"type": "json_schema", "schema": schema}})
        assert message.content[0].type == "text"
        assert json.loads(message.content[0].text) == {"n": 1}

    async def test_takes_pictures(self, sdk: anthropic.AsyncAnthropic) -> None:
        sources = [
            {"type": "url", "url": "https://example.com/a.png"},
            {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="},
        ]
        pictures = [{"type": "image", "source": source} for source in sources]
        with_pictures = await say(sdk, messages=[{"role": "user", "content": [*pictures, *_text("see?")]}])
        without = await say(sdk, messages=[{"role": "user", "content": _text("see?")}])
        assert with_pictures.usage.input_tokens == without.usage.input_tokens + 2 * 85

    async def test_usage_can_be_laid_over(
        self, sdk: anthropic.AsyncAnthropic, control: SandboxControl, key: str
    ) -> None:
        usage: dict[str, Any] = {
            "cache_read_input_tokens": 900,
            "cache_creation_input_tokens": 50,
            "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
        }
        await control.behave(Behaviour(match=Match(key=key), usage=usage))
        for message in (await say(sdk), await stream(sdk)):
            assert message.usage.cache_read_input_tokens == 900
            assert message.usage.cache_creation is not None
            assert message.usage.cache_creation.ephemeral_1h_input_tokens == 30


class TestStream:
    async def test_is_put_together_to_the_whole_message(
        self, sdk: anthropic.AsyncAnthropic, control: SandboxControl, key: str
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), content="one two three", reasoning="First I count."))
        whole, streamed = await say(sdk), await stream(sdk)
        assert [block.type for block in streamed.content] == ["thinking", "text"]
        assert streamed.model_dump(exclude={"id"}) == whole.model_dump(exclude={"id"})

    async def test_has_the_order_of_events(self, http: httpx.AsyncClient, control: SandboxControl, key: str) -> None:
        await control.behave(Behaviour(match=Match(key=key), content="one two"))
        events = await events_of(http)
        assert [name for name, _ in events] == [
            "message_start",
            "ping",
            "content_block_start",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
        assert all(data["type"] == name for name, data in events)

    async def test_usage_is_cumulative(self, http: httpx.AsyncClient, control: SandboxControl, key: str) -> None:
        await control.behave(Behaviour(match=Match(key=key), content="one two three"))
        events = await events_of(http)
        first, last = events[0][1]["message"]["usage"], events[-2][1]["usage"]
        assert (first["output_tokens"], last["output_tokens"]) == (1, 3)
        assert first["input_tokens"] == last["input_tokens"] > 0
        assert "cache_creation" in first
        assert "cache_creation" not in last

    async def test_an_empty_answer_has_no_block(
        self, http: httpx.AsyncClient, control: SandboxControl, key: str
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), content=""))
        names = [name for name, _ in await events_of(http)]
        assert names == ["message_start", "ping", "message_delta", "message_stop"]

    @pytest.mark.parametrize("form", [{"split_bytes": 1}, {"crlf": True}, {"comment": "keep-alive"}])
    async def test_its_form_does_not_change_what_is_said(
        self, sdk: anthropic.AsyncAnthropic, control: SandboxControl, key: str, form: dict[str, Any]
    ) -> None:
        usual = await stream(sdk)
        await control.behave(Behaviour(match=Match(key=key), **form))
        assert await stream(sdk) == usual

    async def test_error_in_mid_stream_is_the_sdks_error(
        self, sdk: anthropic.AsyncAnthropic, control: SandboxControl, key: str
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), error_in_stream_after_chunks=2))
        with pytest.raises(anthropic.APIStatusError) as raised:
            await stream(sdk)
        assert raised.value.type == "overloaded_error"

    async def test_terminal_event_can_be_left_out(
        self, http: httpx.AsyncClient, control: SandboxControl, key: str
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), omit_done=True))
        assert (await events_of(http))[-1][0] == "message_delta"


class TestTools:
    async def test_are_called_in_parallel(self, sdk: anthropic.AsyncAnthropic) -> None:
        for message in (
            await say(sdk, tools=[WEATHER, TIME], tool_choice={"type": "any"}),
            await stream(sdk, tools=[WEATHER, TIME], tool_choice={"type": "any"}),
        ):
            calls = [(block.name, block.input) for block in message.content if block.type == "tool_use"]
            assert calls == [("weather", {"city": "sandbox city"}), ("time", {})]
            assert message.stop_reason == "tool_use"
            assert len({block.id for block in message.content if block.type == "tool_use"}) == 2

    @pytest.mark.parametrize(
        ("choice", "called"),
        [
            ({"type": "any", "disable_parallel_tool_use": True}, ["weather"]),
            ({"type": "tool", "name": "time"}, ["time"]),
            ({"type": "none"}, []),
            ({"type": "auto"}, []),
        ],
    )
    async def test_are_chosen(self, sdk: anthropic.AsyncAnthropic, choice: dict[str, Any], called: list[str]) -> None:
        message = await say(sdk, tools=[WEATHER, TIME], tool_choice=choice)
        assert [block.name for block in message.content if block.type == "tool_use"] == called

    async def test_input_comes_in_fragments_of_text(self, http: httpx.AsyncClient) -> None:
        events = await events_of(http, tools=[WEATHER], tool_choice={"type": "any"})
        (start,) = [data["content_block"] for name, data in events if name == "content_block_start"]
        deltas = [data["delta"] for name, data in events if name == "content_block_delta"]
        assert (start["type"], start["name"], start["input"]) == ("tool_use", "weather", {})
        assert {delta["type"] for delta in deltas} == {"input_json_delta"}
        assert json.loads("".join(delta["partial_json"] for delta in deltas)) == {"city": "sandbox city"}

    async def test_results_are_answered_in_text(self, sdk: anthropic.AsyncAnthropic) -> None:
        asked = [{"role": "user", "content": "use the tool"}]
        called = await say(sdk, tools=[WEATHER], messages=asked)
        (call,) = [block for block in called.content if block.type == "tool_use"]
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "12 degrees"}
        turns = [*asked, called.to_param(), {"role": "user", "content": [result]}]
        answer = await say(sdk, tools=[WEATHER], messages=turns)
        assert answer.content[0].type == "text"
        assert "12 degrees" in answer.content[0].text


class TestThinking:
    async def test_adaptive_thinking_is_told_when_asked_for(self, sdk: anthropic.AsyncAnthropic) -> None:
        thinking = {"type": "adaptive", "display": "summarized"}
        message = await say(sdk, thinking=thinking, output_config={"effort": "low"})
        assert [block.type for block in message.content] == ["thinking", "text"]
        assert message.content[0].type == "thinking"
        assert message.content[0].thinking
        assert message.content[0].signature
        assert message.usage.output_tokens_details is not None
        assert message.usage.output_tokens_details.thinking_tokens == 16

    async def test_adaptive_thinking_is_kept_back_by_default(self, sdk: anthropic.AsyncAnthropic) -> None:
        message = await say(sdk, thinking={"type": "adaptive"})
        assert message.content[0].type == "thinking"
        assert message.content[0].thinking == ""
        assert message.content[0].signature

    async def test_a_budget_is_for_older_models(self, sdk: anthropic.AsyncAnthropic) -> None:
        message = await say(sdk, model=MANUAL, max_tokens=2000, thinking={"type": "enabled", "budget_tokens": 1024})
        assert message.content[0].type == "thinking"
        assert message.content[0].thinking

    async def test_can_be_redacted(self, sdk: anthropic.AsyncAnthropic) -> None:
        messages = [{"role": "user", "content": REDACTED}]
        for message in (
            await say(sdk, thinking={"type": "adaptive"}, messages=messages),
            await stream(sdk, thinking={"type": "adaptive"}, messages=messages),
        ):
            assert [block.type for block in message.content] == ["redacted_thinking", "text"]


class TestToolLoopWithThinking:
    """The thinking block of the turn that called a tool comes back with it, unchanged."""

    OPTIONS: ClassVar[dict[str, Any]] = {
        MANUAL: {"model": MANUAL, "max_tokens": 2000, "thinking": {"type": "enabled", "budget_tokens": 1024}},
        HAIKU: {"model": HAIKU, "thinking": {"type": "adaptive", "display": "summarized"}},
        f"{HAIKU} omitted": {"model": HAIKU, "thinking": {"type": "adaptive"}},
    }

    async def turns(self, sdk: anthropic.AsyncAnthropic, options: dict[str, Any], words: str = "") -> list[Any]:
        asked = [{"role": "user", "content": f"use the tool {words}"}]
        called = await say(sdk, tools=[WEATHER], messages=asked, **options)
        turn = called.to_param()
        call = next(block for block in called.content if block.type == "tool_use")
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "12 degrees"}
        content = [block.model_dump(exclude_none=True) for block in called.content]
        return [*asked, turn | {"content": content}, {"role": "user", "content": [result]}]

    @pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
    @pytest.mark.parametrize("words", ["", REDACTED], ids=["told", "redacted"])
    async def test_goes_on_with_it(self, sdk: anthropic.AsyncAnthropic, options: dict[str, Any], words: str) -> None:
        turns = await self.turns(sdk, options, words)
        assert (await say(sdk, tools=[WEATHER], messages=turns, **options)).stop_reason == "end_turn"

    async def test_is_refused_without_it_where_thinking_has_a_budget(self, sdk: anthropic.AsyncAnthropic) -> None:
        turns = await self.turns(sdk, self.OPTIONS[MANUAL])
        del turns[1]["content"][0]
        with pytest.raises(anthropic.BadRequestError, match="Expected `thinking` or `redacted_thinking`"):
            await say(sdk, tools=[WEATHER], messages=turns, **self.OPTIONS[MANUAL])

    async def test_goes_on_without_it_where_thinking_is_adaptive(self, sdk: anthropic.AsyncAnthropic) -> None:
        turns = await self.turns(sdk, self.OPTIONS[HAIKU])
        del turns[1]["content"][0]
        await say(sdk, tools=[WEATHER], messages=turns, **self.OPTIONS[HAIKU])

    @pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
    @pytest.mark.parametrize("field", ["thinking", "signature"])
    async def test_is_refused_when_altered(
        self, sdk: anthropic.AsyncAnthropic, options: dict[str, Any], field: str
    ) -> None:
        turns = await self.turns(sdk, options)
        turns[1]["content"][0][field] = "something else"
        with pytest.raises(anthropic.BadRequestError, match="Invalid `signature` in `thinking` block"):
            await say(sdk, tools=[WEATHER], messages=turns, **options)

    async def test_is_refused_with_a_forged_seal(self, sdk: anthropic.AsyncAnthropic) -> None:
        turns = await self.turns(sdk, self.OPTIONS[HAIKU])
        signature = turns[1]["content"][0]["signature"]
        turns[1]["content"][0]["signature"] = ("B" if signature[0] == "A" else "A") + signature[1:]
        with pytest.raises(anthropic.BadRequestError, match="Invalid `signature` in `thinking` block"):
            await say(sdk, tools=[WEATHER], messages=turns, **self.OPTIONS[HAIKU])

    async def test_newer_models_refuse_it_in_another_conversation(self, sdk: anthropic.AsyncAnthropic) -> None:
        turns = await self.turns(sdk, self.OPTIONS[HAIKU])
        turns[0]["content"] = "use the tool, said otherwise"
        with pytest.raises(anthropic.BadRequestError, match="bound to a different conversation"):
            await say(sdk, tools=[WEATHER], messages=turns, **self.OPTIONS[HAIKU])


class TestCounts:
    async def test_a_count_is_what_the_message_will_say(self, sdk: anthropic.AsyncAnthropic) -> None:
        asked: dict[str, Any] = {"system": "Be brief.", "messages": HELLO, "tools": [WEATHER]}
        count = await sdk.messages.count_tokens(model=HAIKU, **asked)
        assert count.input_tokens == (await say(sdk, **asked)).usage.input_tokens

    async def test_refuses_what_only_an_answer_has_and_what_no_message_may(self, sdk: anthropic.AsyncAnthropic) -> None:
        for extra, words in (({"max_tokens": 5}, "Extra inputs"), ({"messages": []}, "messages")):
            with pytest.raises(anthropic.BadRequestError, match=words):
                await sdk.messages.count_tokens(model=HAIKU, messages=HELLO, extra_body=extra)


class TestModels:
    async def test_are_listed_page_by_page(self, sdk: anthropic.AsyncAnthropic, http: httpx.AsyncClient) -> None:
        names = [model.id async for model in sdk.models.list(limit=5)]
        everything = (await http.get("/models", params={"limit": 1000})).json()
        assert names == [model["id"] for model in everything["data"]]
        assert len(names) > 10
        assert (everything["has_more"], everything["first_id"], everything["last_id"]) == (
            False,
            names[0],
            names[-1],
        )

    async def test_a_page_points_to_the_next(self, http: httpx.AsyncClient) -> None:
        first = (await http.get("/models", params={"limit": 2})).json()
        second = (await http.get("/models", params={"limit": 2, "after_id": first["last_id"]})).json()
        assert first["has_more"]
        assert {model["id"] for model in first["data"]}.isdisjoint(model["id"] for model in second["data"])

    async def test_are_described(self, sdk: anthropic.AsyncAnthropic) -> None:
        model = await sdk.models.retrieve(MANUAL)
        assert (model.id, model.display_name, model.max_tokens) == (
            "claude-haiku-4-5-20251001",
            "Claude Haiku 4.5",
            64_000,
        )
        ModelInfo.model_validate(model.model_dump(warnings="error"), strict=True)
        assert model.capabilities is not None
        assert not model.capabilities.thinking.types.adaptive.supported

    async def test_unknown_one_is_not_found(self, sdk: anthropic.AsyncAnthropic) -> None:
        with pytest.raises(anthropic.NotFoundError, match="model: claude-1"):
            await sdk.models.retrieve("claude-1")


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "raised", "kind"),
        [
            (400, anthropic.BadRequestError, "invalid_request_error"),
            (401, anthropic.AuthenticationError, "authentication_error"),
            (403, anthropic.PermissionDeniedError, "permission_error"),
            (404, anthropic.NotFoundError, "not_found_error"),
            (409, anthropic.ConflictError, "conflict_error"),
            (429, anthropic.RateLimitError, "rate_limit_error"),
            (500, anthropic.InternalServerError, "api_error"),
            (529, anthropic.InternalServerError, "overloaded_error"),
        ],
    )
    async def test_bad_day_is_the_sdks_error(
        self,
        sdk: anthropic.AsyncAnthropic,
        control: SandboxControl,
        key: str,
        status: int,
        raised: type[anthropic.APIStatusError],
        kind: str,
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), status=status))
        with pytest.raises(raised) as error:
            await say(sdk)
        assert (error.value.status_code, error.value.type) == (status, kind)
        assert error.value.request_id

    async def test_rate_limit_says_when_to_come_back(
        self, sdk: anthropic.AsyncAnthropic, control: SandboxControl, key: str
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), status=429))
        with pytest.raises(anthropic.RateLimitError) as error:
            await say(sdk)
        headers = error.value.response.headers
        assert (headers["retry-after"], headers["x-should-retry"]) == ("12", "true")
        assert headers["anthropic-ratelimit-input-tokens-remaining"] == "0"
        assert headers["anthropic-ratelimit-requests-reset"] == "2026-01-01T00:01:00Z"

    async def test_spend_limit_names_its_cause(
        self, sdk: anthropic.AsyncAnthropic, control: SandboxControl, key: str
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), status=429, body=SPEND_LIMIT))
        with pytest.raises(anthropic.RateLimitError) as error:
            await say(sdk)
        assert error.value.error_code == "enforced_spend_limit_reached"
        assert "retry-after" not in error.value.response.headers

    async def test_low_credit_is_an_invalid_request(
        self, sdk: anthropic.AsyncAnthropic, control: SandboxControl, key: str
    ) -> None:
        await control.behave(Behaviour(match=Match(key=key), status=400, body=LOW_CREDIT))
        with pytest.raises(anthropic.BadRequestError, match="credit balance is too low"):
            await say(sdk)

    @pytest.mark.parametrize("key", ["sk-ant-other", "sk-sandbox-of-another"])
    async def test_foreign_key_is_refused(self, sdk: anthropic.AsyncAnthropic) -> None:
        with pytest.raises(anthropic.AuthenticationError, match="invalid x-api-key"):
            await say(sdk)

    async def test_unknown_model_is_not_found(self, sdk: anthropic.AsyncAnthropic) -> None:
        with pytest.raises(anthropic.NotFoundError, match="model: claude-x"):
            await say(sdk, model="claude-x")

    @pytest.mark.parametrize(
        ("headers", "status", "words"),
        [
            ({"anthropic-version": "2023-06-01"}, 401, "x-api-key header is required"),
            ({"x-api-key": "sk-ant-sandbox-1"}, 400, "anthropic-version: header is required"),
            (
                {"x-api-key": "sk-ant-sandbox-1", "anthropic-version": "1"},
                400,
                'anthropic-version: "1" is not a valid version',
            ),
        ],
    )
    async def test_headers_are_required(
        self, sandbox_url: str, headers: dict[str, str], status: int, words: str
    ) -> None:
        async with httpx.AsyncClient() as client:
            response = await client.post(f"{sandbox_url}/anthropic/v1/messages", headers=headers, json={})
        assert (response.status_code, response.json()["error"]["message"]) == (status, words)

    async def test_x_api_key_counts_before_a_bearer_token(self, http: httpx.AsyncClient) -> None:
        response = await http.get("/models", headers={"authorization": "Bearer other"})
        assert response.status_code == 200


def _text(words: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": words}]


def _call(identity: str = "toolu_1") -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "tool_use", "id": identity, "name": "weather", "input": {}}]}


def _result(identity: str = "toolu_1") -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": identity, "content": "12"}


def _user(*content: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


class TestRefuses:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"max_tokens": "absent"}, "max_tokens: Field required"),
            ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
            ({"max_tokens": 70_000}, "max_tokens: 70000 > 64000, which is the maximum allowed"),
            ({"seed": 1}, "seed: Extra inputs are not permitted"),
            ({"temperature": 1.5}, "temperature: range: 0..1"),
            ({"temperature": 0.5, "top_p": 0.5}, "cannot both be specified for this model"),
            ({"model": HAIKU, "temperature": 0.5}, "`temperature` is deprecated for this model."),
            ({"model": "claude-opus-4-7", "top_p": 0.5}, "`top_p` is deprecated for this model."),
            ({"stop_sequences": [" "]}, "stop_sequences: each stop sequence must contain non-whitespace"),
            ({"output_config": {"effort": "low"}}, "This model does not support the effort parameter."),
            (
                {"model": "claude-sonnet-4-6", "output_config": {"effort": "xhigh"}},
                "This model does not support effort level 'xhigh'.",
            ),
            ({"system": [{"type": "text", "text": ""}]}, "system: text content blocks must be non-empty"),
        ],
    )
    async def test_an_option(self, http: httpx.AsyncClient, options: dict[str, Any], words: str) -> None:
        assert words in await refused(http, **options)

    async def test_sampling_at_all_in_the_newest_version(self, http: httpx.AsyncClient) -> None:
        http.headers["anthropic-version"] = "2026-10-21"
        words = await refused(http, model="claude-sonnet-4-6", temperature=1)
        assert words == "temperature: Extra inputs are not permitted"

    @pytest.mark.parametrize(
        ("messages", "words"),
        [
            ([], "messages: at least one message is required"),
            ([{"role": "system", "content": "Be kind."}], 'messages: Unexpected role "system".'),
            ([{"role": "tool", "content": "12"}], "messages.0.role: Input should be 'user' or 'assistant'"),
            ([_user()], "messages.0: all messages must have non-empty content"),
            ([_user(*_text(""))], "messages: text content blocks must be non-empty"),
            ([_user(*_text(" "))], "messages: text content blocks must contain non-whitespace text"),
            ([_user({"type": "text", "text": "a", "name": "b"})], "text.name: Extra inputs are not permitted"),
            ([*HELLO, _call()], "messages.1: `tool_use` ids were found without `tool_result` blocks"),
            ([*HELLO, _call(), _user(*_text("so?"))], "messages.1: `tool_use` ids were found without"),
            ([*HELLO, _call(), _user(*_text("so?"), _result())], "messages.1: `tool_use` ids were found without"),
            ([*HELLO, _call(), _user(_result("toolu_2"))], "unexpected `tool_use_id` found in `tool_result` blocks"),
            ([*HELLO, _call("a b"), _user(_result("a b"))], "String should match pattern '^[a-zA-Z0-9_-]+$'"),
            ([_user({"type": "tool_use", "id": "a", "name": "b", "input": {}})], "can only be in `assistant` messages"),
            ([_user({"type": "image_url", "image_url": {}})], "Input tag 'image_url' found using 'type'"),
            (
                [_user({"type": "image", "source": {"type": "base64", "media_type": "image/tiff", "data": "YQ=="}})],
                "Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'",
            ),
        ],
    )
    async def test_messages(self, http: httpx.AsyncClient, messages: list[Any], words: str) -> None:
        assert words in await refused(http, messages=messages)

    async def test_an_assistant_turn_to_continue_since_4_6(self, http: httpx.AsyncClient) -> None:
        messages = [*HELLO, {"role": "assistant", "content": "It is"}]
        assert "does not support assistant message prefill" in await refused(
            http, model="claude-sonnet-4-6", messages=messages
        )
        response = await http.post("/messages", json={"model": MANUAL, "max_tokens": 9, "messages": messages})
        assert response.status_code == 200

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"tools": [{"name": "weather"}]}, "tools.0.custom.input_schema: Field required"),
            ({"tools": [{"name": "a", "input_schema": {}}]}, "tools.0.custom.input_schema.type: Field required"),
            ({"tools": [WEATHER, WEATHER]}, "tools: Tool names must be unique."),
            ({"tools": [{"type": "function", "function": {}}]}, "tools.0.custom.name: Field required"),
            ({"tool_choice": {"type": "any"}}, "tool_choice may only be specified while providing tools"),
            ({"tools": [WEATHER], "tool_choice": {"type": "required"}}, "Input tag 'required' found using 'type'"),
            ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "x"}}, "Tool 'x' not found"),
            (
                {"tools": [WEATHER], "tool_choice": {"type": "none", "disable_parallel_tool_use": True}},
                "tool_choice.none.disable_parallel_tool_use: Extra inputs are not permitted",
            ),
            (
                {"model": "claude-opus-5-5", "tools": [WEATHER], "tool_choice": {"type": "any"}},
                "tool_choice: forced tool use is not supported on this model.",
            ),
            ({"tools": [WEATHER | {"strict": True}]}, "'additionalProperties' must be explicitly set to false"),
        ],
    )
    async def test_tools(self, http: httpx.AsyncClient, options: dict[str, Any], words: str) -> None:
        assert words in await refused(http, **options)

    @pytest.mark.parametrize(
        ("model", "thinking", "options", "words"),
        [
            (MANUAL, {"type": "adaptive"}, {}, "adaptive thinking is not supported on this model"),
            (MANUAL, {"type": "enabled", "budget_tokens": 100}, {}, "greater than or equal to 1024"),
            (MANUAL, {"type": "enabled", "budget_tokens": 4096}, {}, "`max_tokens` must be greater than"),
            (MANUAL, {"type": "enabled", "budget_tokens": 2000}, {"temperature": 0.5}, "may only be set to 1 when"),
            (
                MANUAL,
                {"type": "enabled", "budget_tokens": 2000},
                {"tools": [WEATHER], "tool_choice": {"type": "any"}},
                "Thinking may not be enabled when tool_choice forces tool use.",
            ),
            ("claude-opus-4-7", {"type": "enabled", "budget_tokens": 2000}, {}, '"thinking.type.enabled" is not'),
            ("claude-opus-5-5", {"type": "disabled"}, {}, '"thinking.type.disabled" is not supported'),
            ("claude-sonnet-5-5", {"type": "disabled"}, {}, '{"type": "between_tools"}'),
            (HAIKU, {"type": "disabled"}, {"output_config": {"effort": "max"}}, "is not supported with effort 'max'"),
            (HAIKU, {"type": "between_tools"}, {}, '"thinking.type.between_tools" is not supported'),
        ],
    )
    async def test_thinking(
        self, http: httpx.AsyncClient, model: str, thinking: dict[str, Any], options: dict[str, Any], words: str
    ) -> None:
        assert words in await refused(http, model=model, thinking=thinking, **options)

    @pytest.mark.parametrize(
        ("form", "words"),
        [
            ({"type": "json_object"}, "output_config.format.type: Input should be 'json_schema'"),
            ({"type": "json_schema"}, "output_config.format.schema: Field required"),
            (
                {"type": "json_schema", "schema": {"type": "object"}},
                "For 'object' type, 'additionalProperties' must be explicitly set to false",
            ),
            (
                {"type": "json_schema", "schema": {"type": "integer", "minimum": 1}},
                "For 'integer' type, properties minimum are not supported",
            ),
        ],
    )
    async def test_forms_of_answers(self, http: httpx.AsyncClient, form: dict[str, Any], words: str) -> None:
        assert words in await refused(http, output_config={"format": form})

    async def test_what_is_not_json(self, http: httpx.AsyncClient) -> None:
        response = await http.post("/messages", content=b"{")
        assert response.status_code == 400
        assert "not valid JSON" in response.json()["error"]["message"]
