"""Google AI's generateContent in the words of this platform. https://ai.google.dev/api/generate-content

Wire facts: the types of the official `google-genai` SDK and the pages of the API on thinking, thought signatures,
function calling, file input and troubleshooting.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import orjson
from realmultillm.chat.v1 import chat_service_pb2 as chat
from realmultillm.provider.v1 import provider_service_pb2 as provider_pb2

from libs.errors import ProviderError
from libs.json_members import JsonMembers
from libs.provider_keys import ProviderKey
from libs.worker.adapter import MOST_MODELS, Credential, ProviderRequest
from libs.worker.assembly import whole_answer
from libs.worker.embeddings import Embedded
from libs.worker.failures import Failures
from libs.worker.json_facts import parsed
from libs.worker.retry_after import retry_after
from libs.worker.token_counting import counted_request
from libs.worker.token_counts import size
from libs.worker.unsupported_options import UnsupportedOptions
from services.workers.google_ai.answer import GoogleAIAnswerReader
from services.workers.google_ai.embeddings import embedding_body, read_embeddings
from services.workers.google_ai.errors import error_object, read_error, read_in_band_error
from services.workers.google_ai.model_rules import rules_of
from services.workers.google_ai.request import generate_content

# In tokens. From Gemini 4 on a longer answer is broken off unless it comes as a stream.
_LONGEST_WHOLE = 32_768

# A model, with or without its kind. No part of it can leave its place in a path, be it a slash, a query or dots alone.
_NAME = re.compile(r"(?:(models|tunedModels)/)?([A-Za-z0-9][A-Za-z0-9._-]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoogleAI:
    """Speaks with the Gemini API."""

    provider: str = "google-ai"
    display_name: str = "Google AI"
    endpoint: str = "https://generativelanguage.googleapis.com/v1beta"
    default_model: str = "gemini-3.8-flash"
    embeds: bool = True

    @property
    def _failures(self) -> Failures:
        return Failures(self.provider, self.display_name)

    def chat_request(
        self, request: chat.CreateChatCompletionRequest, model: str, credential: Credential, *, stream: bool
    ) -> ProviderRequest:
        unsupported = UnsupportedOptions()
        body = generate_content(request, model, rules_of(model), credential, unsupported)
        unsupported.check()
        in_events = stream or body.get("generationConfig", {}).get("maxOutputTokens", 0) > _LONGEST_WHOLE
        # Without `alt=sse` a stream is one JSON array.
        verb = ":streamGenerateContent?alt=sse" if in_events else ":generateContent"
        return ProviderRequest(
            "POST",
            self._path(model) + verb,
            _headers(credential.api_key),
            orjson.dumps(body),
            streamed=in_events,
            dropped=unsupported.dropped,
        )

    def read_answer(self, body: bytes) -> chat.ChatCompletion:
        reader, said = self.answer_reader(), chat.ChatCompletionChunk()
        reader.read(b"", body, said)
        if not reader.finished:
            raise self._failures.incomplete() if reader.has_candidate else self._failures.not_understood()
        return whole_answer(said, reader)

    def answer_reader(self) -> GoogleAIAnswerReader:
        return GoogleAIAnswerReader(self._failures)

    def read_error(self, status: int, header: Callable[[str], str | None], body: bytes) -> ProviderError:
        return read_error(self._failures, status, error_object(parsed(body)), retry_after(header))

    def embedding_request(self, body: JsonMembers, model: str, credential: Credential) -> ProviderRequest:
        path = self._path(model)
        asked = orjson.dumps(embedding_body(body, path.removeprefix("/")))
        return ProviderRequest("POST", f"{path}:batchEmbedContents", _headers(credential.api_key), asked)

    def read_embeddings(self, answer: bytes, body: JsonMembers, model: str) -> Embedded:
        read = orjson.loads(answer)
        if error := error_object(read):
            raise read_in_band_error(self._failures, error)
        return read_embeddings(read, body, model)

    def count_request(
        self,
        body: JsonMembers,
        model: str,
        credential: Credential,
        headers: Mapping[str, str],  # noqa: ARG002 - none of Anthropic's means anything here
    ) -> ProviderRequest:
        request = counted_request(body, provider=self.provider, model=model)
        unsupported = UnsupportedOptions()
        content = generate_content(request, model, rules_of(model), credential, unsupported)
        unsupported.check()
        path = self._path(model)
        counted = {"generateContentRequest": {"model": path.removeprefix("/"), **content}}
        return ProviderRequest("POST", f"{path}:countTokens", _headers(credential.api_key), orjson.dumps(counted))

    def read_count(self, answer: bytes) -> bytes:
        read = orjson.loads(answer)
        if error := error_object(read):
            raise read_in_band_error(self._failures, error)
        return orjson.dumps({"input_tokens": int(read["totalTokens"])})

    def key_test_request(self, api_key: ProviderKey, model: str) -> ProviderRequest:
        path = self._path(model) if model else "/models?pageSize=1"
        return ProviderRequest("GET", path, _headers(api_key))

    def read_key_test(self, body: bytes, model: str) -> None:  # noqa: ARG002 - its path has named the model
        answer = orjson.loads(body)
        if error := error_object(answer):
            raise read_in_band_error(self._failures, error)
        if "name" not in answer and "models" not in answer:
            raise ValueError("neither a model nor a list of models")

    def models_request(self, api_key: ProviderKey, page_size: int, page_token: str) -> ProviderRequest:
        query = {"pageSize": str(page_size)} if page_size else {}
        if page_token:
            query["pageToken"] = page_token
        path = f"/models?{urlencode(query)}" if query else "/models"
        return ProviderRequest("GET", path, _headers(api_key))

    def read_models(self, body: bytes) -> tuple[list[provider_pb2.Model], str]:
        answer = orjson.loads(body)
        if error := error_object(answer):
            raise read_in_band_error(self._failures, error)
        # A page may be empty, and is then without its list.
        listed = (answer.get("models") or [])[:MOST_MODELS]
        chatting = (each for each in listed if "generateContent" in each["supportedGenerationMethods"])
        return [_model(each) for each in chatting], answer.get("nextPageToken") or ""

    def _path(self, model: str) -> str:
        """Raises ModelNotFound for what cannot be the name of a model, which would lead to another path."""
        named = _NAME.fullmatch(model)
        if named is None:
            raise self._failures.model_not_found()
        return f"/{named[1] or 'models'}/{named[2]}"


def _headers(api_key: ProviderKey) -> dict[str, str]:
    # The API takes the key as `?key=` too, but what is in a URL ends up in logs.
    return {"x-goog-api-key": api_key.reveal(), "content-type": "application/json"}


def _model(listed: dict[str, Any]) -> provider_pb2.Model:
    name = listed["name"].removeprefix("models/")
    return provider_pb2.Model(
        id=name,
        display_name=listed.get("displayName") or name,
        context_length=size(listed.get("inputTokenLimit")),
        max_output_tokens=size(listed.get("outputTokenLimit")),
    )


ADAPTER = GoogleAI()
