"""What was asked in a chat, as it is written down for the history of whoever asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from realmultillm.analytics.v1 import chat_content_pb2
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.worker.inline_data import lighter_json, lighter_url

# Of the content of one chat; sealing that much takes a millisecond, in which the worker serves nobody else.
MOST_BYTES = 1024 * 1024


class KeptRequest(Protocol):
    """A request that is kept."""

    @property
    def heavy(self) -> bool:
        """True when it is too large to be kept with the pictures that came inside it."""
        ...

    def put_into(self, content: chat_content_pb2.ChatContent) -> None:
        """Writes it down as it came."""
        ...

    def put_lighter_into(self, content: chat_content_pb2.ChatContent) -> bool:
        """Writes it down without those pictures. Tells whether there were any."""
        ...


@dataclass(frozen=True, slots=True)
class Words:
    """A request in the words of another API, by the name that contents have for it."""

    api: str
    body: bytes = field(repr=False)

    @property
    def heavy(self) -> bool:
        return len(self.body) > MOST_BYTES

    def put_into(self, content: chat_content_pb2.ChatContent) -> None:
        content.dialect = self.api
        content.request = self.body

    def put_lighter_into(self, content: chat_content_pb2.ChatContent) -> bool:
        content.dialect = self.api
        body = lighter_json(self.body)
        if len(body) <= MOST_BYTES:
            content.request = body
        return len(body) < len(self.body)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A request in the hub's words."""

    request: chat.CreateChatCompletionRequest = field(repr=False)

    @property
    def heavy(self) -> bool:
        size = 0
        for message in self.request.messages:
            for part in message.parts:
                if part.HasField("image_url"):
                    size += len(part.image_url.url)
        return size > MOST_BYTES

    def put_into(self, content: chat_content_pb2.ChatContent) -> None:
        content.messages.extend(self.request.messages)

    def put_lighter_into(self, content: chat_content_pb2.ChatContent) -> bool:
        if not any(part.HasField("image_url") for message in self.request.messages for part in message.parts):
            return False
        left_out = False
        for message in self.request.messages:
            lighter = content.messages.add(
                role=message.role,
                content=message.content,
                tool_calls=message.tool_calls,
                tool_call_id=message.tool_call_id,
                reasoning_details=message.reasoning_details,
            )
            for part in message.parts:
                if not part.HasField("image_url"):
                    lighter.parts.append(part)
                    continue
                picture = part.image_url
                url = lighter_url(picture.url)
                lighter.parts.add(image_url=chat.ImageUrl(url=url, detail=picture.detail))
                left_out = left_out or len(url) < len(picture.url)
        return left_out
