"""The adapter of a provider that speaks the dialect."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import orjson
from realmultillm.chat.v1 import chat_service_pb2 as chat
from realmultillm.provider.v1 import provider_service_pb2 as provider_pb2

from libs.errors import ProviderError
from libs.json_members import JsonMembers
from libs.provider_keys import ProviderKey
from libs.worker.adapter import CHAT_COMPLETIONS, Credential, ProviderRequest
from libs.worker.embeddings import Embedded
from libs.worker.failures import Failures
from libs.worker.json_facts import parsed
from libs.worker.openai_dialect.answer import OpenAIAnswerReader, read_completion
from libs.worker.openai_dialect.embeddings import embedding_body, embedding_error, read_embeddings
from libs.worker.openai_dialect.errors import (
    ReadOwnError,
    error_object,
    in_band_status,
    nothing_of_its_own,
    read_error,
)
from libs.worker.openai_dialect.model_list import models_in_data
from libs.worker.openai_dialect.model_rules import RulesOf, takes_anything
from libs.worker.openai_dialect.passing import PassingOpenAIReader, asks_for_usage, passing_body
from libs.worker.openai_dialect.request import (
    AskForEffort,
    FitBody,
    GaveDetail,
    OptionsInWords,
    as_it_is,
    message,
    reasoning_effort_field,
)
from libs.worker.openai_dialect.usage import ReadCost, ReadUsage, no_cost, read_usage
from libs.worker.retry_after import go_duration, retry_after, used_up
from libs.worker.unsupported_options import UnsupportedOptions

# Usage comes on streams only when asked for; the padding against traffic analysis doubles small chunks, and inside
# TLS to one peer it protects nothing here.
_STREAM_OPTIONS: Mapping[str, bool] = {"include_usage": True, "include_obfuscation": False}

# What OpenAI limits, and those that took over its headers; the resets are Go durations.
# https://developers.openai.com/api/docs/guides/rate-limits
_LIMITS = ("x-ratelimit-{}-requests", "x-ratelimit-{}-tokens", "x-ratelimit-{}-project-tokens")


def _accepted(failures: Failures, answer: dict[str, Any], model: str) -> ProviderError | None:  # noqa: ARG001 - see check_key
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIDialect:
    """Speaks the dialect with one provider; the fields with defaults are what such providers differ in.

    `answer_limit_field` is what the provider calls the limit on the answer. `extra_headers` go with every request.
    `stream_options` go with every stream. `fit_body` has the last word on the body of a chat. `key_test_path` is the
    cheapest path that needs a good key, `model_test_path` the one that needs a key good for a model, and `check_key`
    finds what is wrong with a key, or with the model it was tried for, in the successful answer. `models_path` lists
    the models and `listed_models` reads the list. `embeds` says whether there are embeddings. `gave_detail` is for
    providers that take their reasoning details back, and tells them from those of others.
    """

    provider: str
    display_name: str
    endpoint: str
    default_model: str
    answer_limit_field: str = "max_tokens"
    extra_headers: Mapping[str, str] = field(default_factory=dict)
    stream_options: Mapping[str, bool] = field(default_factory=lambda: _STREAM_OPTIONS)
    rules_of: RulesOf = takes_anything
    ask_for_effort: AskForEffort = reasoning_effort_field
    fit_body: FitBody = as_it_is
    gave_detail: GaveDetail | None = None
    read_usage: ReadUsage = read_usage
    read_cost: ReadCost = no_cost
    read_own_error: ReadOwnError = nothing_of_its_own
    embeds: bool = True
    key_test_path: str = "/models"
    model_test_path: str = "/models/{model}"
    check_key: Callable[[Failures, dict[str, Any], str], ProviderError | None] = _accepted
    models_path: str = "/models"
    listed_models: Callable[[dict[str, Any]], Iterable[provider_pb2.Model]] = models_in_data

    @property
    def _failures(self) -> Failures:
        return Failures(self.provider, self.display_name)

    def chat_request(
        self, request: chat.CreateChatCompletionRequest, model: str, credential: Credential, *, stream: bool
    ) -> ProviderRequest:
        rules = self.rules_of(model, request.options.reasoning_effort)
        unsupported = UnsupportedOptions()
        body: dict[str, Any] = {
            "model": model,
            "messages": [message(turn, rules, self.gave_detail) for turn in request.messages],
        }
        options = OptionsInWords(model, rules, unsupported)
        body |= options.body(request.options, credential, self.answer_limit_field, self.ask_for_effort)
        self.fit_body(body, unsupported)
        unsupported.check()
        if stream:
            body |= {"stream": True}
            if self.stream_options:
                body["stream_options"] = self.stream_options
        return ProviderRequest(
            "POST",
            "/chat/completions",
            self._headers(credential.api_key),
            orjson.dumps(body),
            streamed=stream,
            dropped=unsupported.dropped,
        )

    def read_answer(self, body: bytes) -> chat.ChatCompletion:
        answer = orjson.loads(body)
        # A provider that fails in the middle may send what it has, with the error beside it or inside the choice.
        for part in (answer, *(answer.get("choices") or ())[:1]):
            if part.get("error") or part.get("object") == "error":
                raise self._in_band_error(part)
        return read_completion(answer, self.provider, self.read_usage, self.read_cost)

    def answer_reader(self) -> OpenAIAnswerReader:
        return OpenAIAnswerReader(self.provider, self._in_band_error, self.read_usage, self.read_cost)

    def read_error(self, status: int, header: Callable[[str], str | None], body: bytes) -> ProviderError:
        error = error_object(parsed(body))
        wait = retry_after(header)
        if wait is None and status == 429:
            wait = used_up(header, _LIMITS, go_duration)
        return self._error(status, error, wait)

    def _in_band_error(self, answer: dict[str, Any]) -> ProviderError:
        error = error_object(answer)
        return self._error(in_band_status(error), error, None)

    def _error(self, status: int, error: dict[str, Any], wait: float | None) -> ProviderError:
        own = self.read_own_error(self._failures, status, error, wait)
        return own or read_error(self._failures, status, error, wait)

    @property
    def dialect(self) -> str:
        return CHAT_COMPLETIONS

    @property
    def passing_headers(self) -> Collection[str]:
        return ()

    def passing_request(
        self,
        body: JsonMembers,
        model: str,
        credential: Credential,
        headers: Mapping[str, str],  # noqa: ARG002 - none of them mean anything here
        *,
        stream: bool,
    ) -> ProviderRequest:
        return ProviderRequest(
            "POST",
            "/chat/completions",
            self._headers(credential.api_key),
            passing_body(body, model, ask_for_usage=stream and self._asks_for_usage),
            streamed=stream,
        )

    def passing_reader(self, body: JsonMembers) -> PassingOpenAIReader:
        choices = body.value("n")
        return PassingOpenAIReader(
            self._in_band_error,
            self.read_usage,
            self.read_cost,
            choices=choices if isinstance(choices, int) else 1,
            hide_usage=self._asks_for_usage and not asks_for_usage(body),
        )

    def embedding_request(self, body: JsonMembers, model: str, credential: Credential) -> ProviderRequest:
        return ProviderRequest("POST", "/embeddings", self._headers(credential.api_key), embedding_body(body, model))

    def read_embeddings(self, answer: bytes, body: JsonMembers, model: str) -> Embedded:  # noqa: ARG002 - passes as it is
        if (error := embedding_error(answer)) is not None:
            raise self._in_band_error(error)
        return read_embeddings(answer, self.read_cost)

    @property
    def _asks_for_usage(self) -> bool:
        return self.stream_options.get("include_usage", False)

    def key_test_request(self, api_key: ProviderKey, model: str) -> ProviderRequest:
        path = self.model_test_path.format(model=quote(model, safe="")) if model else self.key_test_path
        return ProviderRequest("GET", path, self._headers(api_key))

    def read_key_test(self, body: bytes, model: str) -> None:
        answer = orjson.loads(body)
        if error := error_object(answer):
            raise self._error(in_band_status(error), error, None)
        if (wrong := self.check_key(self._failures, answer, model)) is not None:
            raise wrong

    def models_request(self, api_key: ProviderKey, page_size: int, page_token: str) -> ProviderRequest:  # noqa: ARG002 - one page
        return ProviderRequest("GET", self.models_path, self._headers(api_key))

    def read_models(self, body: bytes) -> tuple[list[provider_pb2.Model], str]:
        return list(self.listed_models(orjson.loads(body))), ""

    def _headers(self, api_key: ProviderKey) -> dict[str, str]:
        return {
            "authorization": f"Bearer {api_key.reveal()}",
            "content-type": "application/json",
            **self.extra_headers,
        }
