"""What OpenAI's models take: sampling, stop texts, effort and the system's role, by family."""

import typing
from collections.abc import Iterator
from typing import Any, ClassVar

import orjson
import pytest
from openai.types import AudioModel, ChatModel, EmbeddingModel, ImageModel, ModerationModel
from openai.types.audio import SpeechModel
from openai.types.video_model import VideoModel

from libs.errors import InvalidRequest
from libs.provider_keys import ProviderKey
from libs.worker.adapter import Credential, ProviderRequest
from services.workers.openai.adapter import ADAPTER
from tests.support.chat_requests import chat_request

REASONING = ("o1", "o3-mini", "o4-mini", "gpt-5", "gpt-5-mini", "gpt-5.2", "gpt-6.2-sol", "gpt-9", "ft:o4-mini:x")
PLAIN = ("gpt-3.5-turbo", "gpt-4o", "gpt-4.1-mini", "chatgpt-4o-latest", "gpt-5-chat-latest", "ft:gpt-4o:acme::x")


CREDENTIAL = Credential(ProviderKey("sk-sandbox-1"))


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
        assert [dropped.reason for dropped in request.dropped] == [
            f"{model} takes no {what}." for what in ("temperature", "topP", "penalties", "penalties")
        ]

    @pytest.mark.parametrize("model", REASONING)
    def test_a_penalty_of_zero_is_none(self, model: str) -> None:
        request = asked(model, presencePenalty=0, frequencyPenalty=0)
        assert left_out(request) == []
        assert not {"presence_penalty", "frequency_penalty"} & body(request).keys()

    @pytest.mark.parametrize("model", ["gpt-5.1", "gpt-5.4-mini", "gpt-6-sol"])
    def test_is_taken_by_newer_models_that_are_told_not_to_reason(self, model: str) -> None:
        request = asked(model, reasoningEffort="none", **self.OPTIONS)
        assert (body(request)["temperature"], left_out(request)) == (0.2, [])

    def test_of_the_stored_configuration_is_left_out_too(self) -> None:
        credential = Credential(ProviderKey("sk-sandbox-1"), temperature=0.5)
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


def named_by(kind: Any) -> Iterator[str]:
    """Yields the models that a type of the official SDK names."""
    for member in typing.get_args(kind):
        if isinstance(member, str):
            yield member
        else:
            yield from named_by(member)


def listed(*models: str) -> list[str]:
    """Returns those of a list of OpenAI's that are told."""
    entries = [{"id": model, "object": "model", "created": 1, "owned_by": "system"} for model in models]
    found, token = ADAPTER.read_models(orjson.dumps({"object": "list", "data": entries}))
    assert token == ""
    return [model.id for model in found]


class TestList:
    @pytest.mark.parametrize(
        "kind",
        [EmbeddingModel, AudioModel, SpeechModel, ImageModel, VideoModel, ModerationModel],
        ids=["embedding", "audio", "speech", "image", "video", "moderation"],
    )
    def test_is_without_those_for_something_else(self, kind: Any) -> None:
        assert len(list(named_by(kind))) >= 3
        assert listed(*named_by(kind)) == []

    def test_has_all_that_chat_in_text(self) -> None:
        expected = [model for model in named_by(ChatModel) if "audio" not in model]
        assert len(expected) > 50
        assert listed(*named_by(ChatModel)) == expected

    @pytest.mark.parametrize(
        "model",
        [
            "davinci-002",
            "babbage-002",
            "ft:davinci-002:acme::x",
            "gpt-3.5-turbo-instruct-0914",
            "gpt-4o-mini-realtime-preview",
            "gpt-realtime-2.1-mini",
            "gpt-audio-1.5",
            "gpt-image-9",
            "o3-deep-research",
            "o4-mini-deep-research-2025-06-26",
            "o3-pro",
            "gpt-5-pro-2025-10-06",
            "computer-use-preview",
        ],
    )
    def test_is_without_those_of_other_apis(self, model: str) -> None:
        assert listed(model) == []

    @pytest.mark.parametrize(
        "model",
        [
            "gpt-9-nova",
            "of-tomorrow",
            "my-imagery",
            "text-of-tomorrow",
            "ft:gpt-4o-mini:acme:image-tts-audio:x",
            "gpt-5.2-pro",
        ],
    )
    def test_keeps_what_nobody_here_knows(self, model: str) -> None:
        assert listed(model) == [model]
