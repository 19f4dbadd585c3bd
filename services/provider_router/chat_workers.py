"""The methods of the workers that the router forwards to, from bytes to bytes."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from realmultillm.anthropic.v1 import message_service_pb2
from realmultillm.chat.v1 import chat_service_pb2
from realmultillm.openai.v1 import chat_completion_service_pb2, embedding_service_pb2

CHAT = chat_service_pb2.DESCRIPTOR.services_by_name["ChatService"].full_name
OPENAI_CHAT = chat_completion_service_pb2.DESCRIPTOR.services_by_name["ChatCompletionService"].full_name
EMBEDDINGS = embedding_service_pb2.DESCRIPTOR.services_by_name["EmbeddingService"].full_name
MESSAGES = message_service_pb2.DESCRIPTOR.services_by_name["MessageService"].full_name


@dataclass(frozen=True, slots=True)
class ChatWorker:
    """One provider's worker."""

    provider: str
    create: grpc.aio.UnaryUnaryMultiCallable
    stream: grpc.aio.UnaryStreamMultiCallable
    complete_as_openai: grpc.aio.UnaryStreamMultiCallable
    embed: grpc.aio.UnaryUnaryMultiCallable
    complete_as_anthropic: grpc.aio.UnaryStreamMultiCallable
    count_tokens: grpc.aio.UnaryUnaryMultiCallable

    @classmethod
    def on(cls, channel: grpc.aio.Channel, provider: str) -> ChatWorker:
        """The worker at the other end of a channel."""
        return cls(
            provider,
            create=channel.unary_unary(f"/{CHAT}/CreateChatCompletion"),
            stream=channel.unary_stream(f"/{CHAT}/StreamChatCompletion"),
            complete_as_openai=channel.unary_stream(f"/{OPENAI_CHAT}/CreateChatCompletion"),
            embed=channel.unary_unary(f"/{EMBEDDINGS}/CreateEmbedding"),
            complete_as_anthropic=channel.unary_stream(f"/{MESSAGES}/CreateMessage"),
            count_tokens=channel.unary_unary(f"/{MESSAGES}/CountMessageTokens"),
        )
