"""What OpenAI's models take: sampling, stop texts, effort and the system's role, by family."""

from typing import Any, ClassVar

import orjson
import pytest

from libs.errors import InvalidRequest
from libs.redaction import Secret
from libs.worker.adapter import Credential, ProviderRequest
from services.workers.openai.adapter import ADAPTER
from tests.support.chat_requests import chat_request

REASONING = ("o1", "o3-mini", "o4-mini", "gpt-5", "gpt-5-mini", "gpt-5.2", "gpt-6.2-sol", "gpt-9", "ft:o4-mini:x")
PLAIN = ("gpt-3.5-turbo", "gpt-4o", "gpt-4.1-mini", "chatgpt-4o-latest", "gpt-5-chat-latest", "ft:gpt-4o:acme::x")


CREDENTIAL = Credential(Secret("sk-sandbox-1"))


def asked(model: str, credential: Credential = CREDENTIAL, **options: Any) -> ProviderRequest:
    """Returns the request for a model with these options."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    return ADAPTER.chat_request(
        chat_request({"messages": messages, "options": options}), model, credential, stream=False
    )


def body(request: ProviderRequest) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(request.body)
    return found


def left_out(request: ProviderRequest) -> list[str]:
    return [dropped.option for dropped in request.dropped]


class TestLimit:
    @pytest.mark.parametrize("model", REASONING + PLAIN)
    def test_has_the_name_that_every_model_takes(self, model: str) -> None:
        found = body(asked(model, maxTokens=5))
        assert (found["max_completion_tokens"], "max_tokens" in found) == (5, False)


class TestSystemRole:
    @pytest.mark.parametrize("model", REASONING)
    def test_is_developer_where_a_model_reasons(self, model: str) -> None:
        assert body(asked(model))["messages"][0]["role"] == "developer"

    @pytest.mark.parametrize("model", PLAIN)
    def test_is_system_elsewhere(self, model: str) -> None:
        assert body(asked(model))["messages"][0]["role"] == "system"


class TestSampling:
    OPTIONS: ClassVar[dict[str, Any]] = {"temperature": 0.2, "topP": 0.5, "presencePenalty": 1, "frequencyPenalty": 1}
    PATHS = ("options.temperature", "options.topP", "options.presencePenalty", "options.frequencyPenalty")

    @pytest.mark.parametrize("model", PLAIN)
    def test_is_taken_by_models_that_do_not_reason(self, model: str) -> None:
        request = asked(model, **self.OPTIONS)
        assert (body(request)["temperature"], left_out(request)) == (0.2, [])

    @pytest.mark.parametrize("model", REASONING)
    def test_is_left_out_with_a_note_where_a_model_reasons(self, model: str) -> None:
        request = asked(model, **self.OPTIONS)
        assert left_out(request) == list(self.PATHS)
        assert not {"temperature", "top_p", "presence_penalty", "frequency_penalty"} & body(request).keys()
        assert all(model in dropped.reason for dropped in request.dropped)

    @pytest.mark.parametrize("model", ["gpt-5.1", "gpt-5.4-mini", "gpt-6-sol"])
    def test_is_taken_by_newer_models_that_are_told_not_to_reason(self, model: str) -> None:
        request = asked(model, reasoningEffort="none", **self.OPTIONS)
        assert (body(request)["temperature"], left_out(request)) == (0.2, [])

    def test_of_the_stored_configuration_is_left_out_too(self) -> None:
        credential = Credential(Secret("sk-sandbox-1"), temperature=0.5)
        assert left_out(asked("o3", credential)) == ["temperature"]
        assert body(asked("gpt-4o", credential))["temperature"] == 0.5


class TestStop:
    @pytest.mark.parametrize("model", ["o3", "gpt-5", "gpt-5-mini"])
    def test_is_refused_where_it_would_be_passed_over(self, model: str) -> None:
        with pytest.raises(InvalidRequest) as refused:
            asked(model, stop=["END"])
        assert [violation.field for violation in refused.value.violations] == ["options.stop"]
        assert "another model" in refused.value.message

    @pytest.mark.parametrize("model", [*PLAIN, "gpt-5.2"])
    def test_is_sent_where_a_model_may_take_it(self, model: str) -> None:
        assert body(asked(model, stop=["END"]))["stop"] == ["END"]


class TestEffort:
    @pytest.mark.parametrize(
        ("model", "wanted", "asked_for"),
        [
            ("o3", "none", "low"),
            ("o3", "max", "high"),
            ("gpt-5", "none", "minimal"),
            ("gpt-5", "minimal", "minimal"),
            ("gpt-5.1", "minimal", "none"),
            ("gpt-5.4", "max", "xhigh"),
            ("gpt-6.2-sol", "max", "max"),
        ],
    )
    def test_is_rounded_to_what_a_model_has_and_says_so(self, model: str, wanted: str, asked_for: str) -> None:
        request = asked(model, reasoningEffort=wanted)
        assert body(request)["reasoning_effort"] == asked_for
        assert left_out(request) == ([] if wanted == asked_for else ["options.reasoningEffort"])

    @pytest.mark.parametrize("model", PLAIN)
    def test_is_left_out_with_a_note_where_a_model_does_not_reason(self, model: str) -> None:
        request = asked(model, reasoningEffort="low")
        assert ("reasoning_effort" in body(request), left_out(request)) == (False, ["options.reasoningEffort"])
