"""The gRPC face of a worker's embeddings: check, call, convert."""

from __future__ import annotations

from typing import Any

from google.api import httpbody_pb2
from realmultillm.openai.v1 import embedding_service_pb2 as openai
from realmultillm.openai.v1.embedding_service_pb2_grpc import EmbeddingServiceServicer

from libs.json_members import JsonMembers
from libs.rpc.identity import current_call
from libs.worker.answer_headers import tell
from libs.worker.embeddings import Embeddings
from libs.worker.own_provider import check_provider


class WorkerEmbeddingServicer(EmbeddingServiceServicer):
    """Embeds with this worker's provider."""

    def __init__(self, embeddings: Embeddings, provider: str) -> None:
        self._embeddings = embeddings
        self._provider = provider

    async def CreateEmbedding(self, request: openai.CreateEmbeddingRequest, _context: Any) -> httpbody_pb2.HttpBody:
        check_provider(request.provider, self._provider)
        call = current_call()
        passed = await self._embeddings.create(JsonMembers(request.body.data), request.model, call)
        tell(call, total_ms=passed.total_ms, provider_ms=passed.provider_ms, cost_usd=passed.cost_usd)
        return httpbody_pb2.HttpBody(content_type="application/json", data=passed.body)
