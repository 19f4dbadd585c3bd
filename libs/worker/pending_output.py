"""What was said and waits to be written, kept so that its size is its cost."""

from __future__ import annotations

from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.worker.assembly import merged

# A message is large for the few words a delta holds, and merging copies them: so many become one, once.
_MOST_SMALL = 64


class PendingOutput:
    """Chunks in the order they came; taken together they are one chunk."""

    __slots__ = ("_chunks", "_merged", "has_output", "size")

    def __init__(self) -> None:
        self._chunks: list[chat.ChatCompletionChunk] = []
        self._merged = 0  # those in front, which are merged already
        self.size = 0
        """Bytes that wait."""
        self.has_output = False
        """True when something the model said waits, not only facts about the answer."""

    def add(self, chunk: chat.ChatCompletionChunk) -> None:
        """Adds what was said next; a chunk that says nothing is none."""
        size = chunk.ByteSize()
        if not size:
            return
        self.size += size
        self.has_output = self.has_output or bool(chunk.content or chunk.reasoning_content or chunk.tool_calls)
        self._chunks.append(chunk)
        if len(self._chunks) - self._merged >= _MOST_SMALL:
            self._chunks[self._merged :] = [merged(self._chunks[self._merged :])]
            self._merged += 1

    def take(self) -> chat.ChatCompletionChunk:
        """Returns all of it as one chunk, and waits for more."""
        chunks, self._chunks = self._chunks, []
        self._merged = self.size = 0
        self.has_output = False
        return merged(chunks) if chunks else chat.ChatCompletionChunk()
