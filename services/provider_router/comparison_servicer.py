"""Comparisons as the protos have them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import grpc
from realmultillm.chat.v1 import comparison_service_pb2 as comparison
from realmultillm.chat.v1.comparison_service_pb2_grpc import ComparisonServiceServicer

from services.provider_router.comparison import Comparisons
from services.provider_router.comparison_validation import check_comparison


class ComparisonServicer(ComparisonServiceServicer):
    """Puts conversations to several workers; `providers` are the ids there are."""

    def __init__(self, comparisons: Comparisons, *, providers: Collection[str]) -> None:
        self._comparisons = comparisons
        self._providers = providers

    async def CompareChatCompletions(
        self, request: comparison.CompareChatCompletionsRequest, _context: Any
    ) -> comparison.CompareChatCompletionsResponse:
        check_comparison(request, providers=self._providers, streaming=False)
        return comparison.CompareChatCompletionsResponse(results=await self._comparisons.whole(request))

    async def StreamChatComparison(self, request: comparison.CompareChatCompletionsRequest, context: Any) -> None:
        check_comparison(request, providers=self._providers, streaming=True)
        await self._comparisons.streamed(request, context.write)


def add_comparison_servicer_to_server(servicer: ComparisonServicer, server: grpc.aio.Server) -> None:
    """Registers the servicer. Its streams are serialized already, around the bytes that workers sent."""
    read = comparison.CompareChatCompletionsRequest.FromString
    handlers = {
        "CompareChatCompletions": grpc.unary_unary_rpc_method_handler(
            servicer.CompareChatCompletions,
            request_deserializer=read,
            response_serializer=comparison.CompareChatCompletionsResponse.SerializeToString,
        ),
        "StreamChatComparison": grpc.unary_stream_rpc_method_handler(
            servicer.StreamChatComparison, request_deserializer=read
        ),
    }
    service = comparison.DESCRIPTOR.services_by_name["ComparisonService"].full_name
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
