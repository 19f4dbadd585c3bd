"""Anthropic's messages in the words of this platform. https://platform.claude.com/docs/en/api/messages/create

Wire facts: the types of the official `anthropic` SDK 2.12 and the pages of the API named in each module.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from realmultillm.chat.v1 import chat_service_pb2 as chat
from realmultillm.provider.v1 import provider_service_pb2 as provider_pb2

from libs.anthropic_api.sealed_notes import without_sealed
from libs.errors import ProviderError
from libs.json_members import JsonMembers
from libs.provider_keys import ProviderKey
from libs.worker.adapter import MESSAGES, MOST_MODELS, Credential, ProviderRequest
from libs.worker.assembly import whole_answer
from libs.worker.failures import Failures
from libs.worker.json_facts import parsed
from libs.worker.token_counts import size
from libs.worker.unsupported_options import UnsupportedOptions
from services.workers.anthropic.answer import AnthropicAnswerReader
from services.workers.anthropic.errors import error_object, read_error, read_in_band_error
from services.workers.anthropic.model_rules import rules_of
from services.workers.anthropic.passing import PassingAnthropicReader
from services.workers.anthropic.request import message_request

_VERSION = "2026-10-21"
# The version before knows temperature and top-p, which the older models still take. Nothing else differs here.
_VERSION_WITH_SAMPLING = "2023-06-01"
# What a caller means who names no version, as one that came over gRPC.
_VERSION_OF_SDKS = "2023-06-01"
# https://platform.claude.com/docs/en/api/versioning and …/beta-headers
_CALLERS_HEADERS = frozenset({"anthropic-version", "anthropic-beta"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Anthropic:
    """Speaks with the Messages API."""

    provider: str = "anthropic"
    display_name: str = "Anthropic"
    endpoint: str = "https://api.anthropic.com/v1"
    default_model: str = "claude-haiku-5-5"

    @property
    def _failures(self) -> Failures:
        return Failures(self.provider, self.display_name)

    def chat_request(
        self, request: chat.CreateChatCompletionRequest, model: str, credential: Credential, *, stream: bool
    ) -> ProviderRequest:
        unsupported = UnsupportedOptions()
        body = message_request(request, model, rules_of(model), credential, unsupported, stream=stream)
        unsupported.check()
        sampled = "temperature" in body or "top_p" in body
        return ProviderRequest(
            "POST",
            "/messages",
            _headers(credential.api_key, _VERSION_WITH_SAMPLING if sampled else _VERSION),
            orjson.dumps(body),
            streamed="stream" in body,
            dropped=unsupported.dropped,
        )

    def read_answer(self, body: bytes) -> chat.ChatCompletion:
        reader, said = self.answer_reader(), chat.ChatCompletionChunk()
        reader.read_message(self._parse(body), said)
        return whole_answer(said, reader)

    def answer_reader(self) -> AnthropicAnswerReader:
        return AnthropicAnswerReader(self._failures)

    def read_error(self, status: int, header: Callable[[str], str | None], body: bytes) -> ProviderError:
        return read_error(self._failures, status, error_object(parsed(body)), header)

    @property
    def dialect(self) -> str:
        return MESSAGES

    @property
    def passing_headers(self) -> Collection[str]:
        return _CALLERS_HEADERS

    def passing_request(
        self, body: JsonMembers, model: str, credential: Credential, headers: Mapping[str, str], *, stream: bool
    ) -> ProviderRequest:
        changes = {}
        if model and body.value("model") != model:
            changes["model"] = orjson.dumps(model)
        if messages := without_sealed(body):
            changes["messages"] = messages
        return ProviderRequest(
            "POST",
            "/messages",
            {**_headers(credential.api_key, _VERSION_OF_SDKS), **headers},
            body.replaced(changes) if changes else body.whole,
            streamed=stream,
        )

    def passing_reader(self, body: JsonMembers) -> PassingAnthropicReader:  # noqa: ARG002 - it reads all alike
        return PassingAnthropicReader(self._failures)

    def count_request(
        self, body: JsonMembers, model: str, credential: Credential, headers: Mapping[str, str]
    ) -> ProviderRequest:
        own = {name: value for name, value in headers.items() if name in _CALLERS_HEADERS}
        asked = self.passing_request(body, model, credential, own, stream=False)
        return replace(asked, path="/messages/count_tokens")

    def read_count(self, answer: bytes) -> bytes:
        _ = self._parse(answer)["input_tokens"]  # without it, it is no count
        return answer

    def key_test_request(self, api_key: ProviderKey, model: str) -> ProviderRequest:
        path = f"/models/{quote(model, safe='')}" if model else "/models?limit=1"
        return ProviderRequest("GET", path, _headers(api_key))

    def read_key_test(self, body: bytes, model: str) -> None:  # noqa: ARG002 - its path has named the model
        answer = self._parse(body)
        if "id" not in answer:
            _ = answer["data"]  # neither a model nor a list of them: not understood

    def models_request(self, api_key: ProviderKey, page_size: int, page_token: str) -> ProviderRequest:
        query = {"limit": str(page_size)} if page_size else {}
        if page_token:
            query["after_id"] = page_token
        path = f"/models?{urlencode(query)}" if query else "/models"
        return ProviderRequest("GET", path, _headers(api_key))

    def read_models(self, body: bytes) -> tuple[list[provider_pb2.Model], str]:
        page = self._parse(body)
        models = [_model(listed) for listed in page["data"][:MOST_MODELS]]
        return models, (page["last_id"] or "") if page.get("has_more") else ""

    def _parse(self, body: bytes) -> dict[str, Any]:
        """Raises the ProviderError of an error that came for an answer."""
        answer = orjson.loads(body)
        if not isinstance(answer, dict):
            raise TypeError("no JSON object")
        if answer.get("type") == "error" or "error" in answer:
            raise read_in_band_error(self._failures, error_object(answer))
        return answer


def _headers(api_key: ProviderKey, version: str = _VERSION) -> dict[str, str]:
    return {"x-api-key": api_key.reveal(), "anthropic-version": version, "content-type": "application/json"}


def _model(listed: dict[str, Any]) -> provider_pb2.Model:
    return provider_pb2.Model(
        id=listed["id"],
        display_name=listed.get("display_name") or listed["id"],
        context_length=size(listed.get("max_input_tokens")),
        max_output_tokens=size(listed.get("max_tokens")),
    )


ADAPTER = Anthropic()
