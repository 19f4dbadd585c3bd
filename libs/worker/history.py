"""Keeps what was said in chats for the history of whoever said it: sealed in the worker, sent along with the record.

Nothing of it is written anywhere but encrypted with a data key of the account. A chat does not wait for its key before
its answer is whole, and then only if the key is not there after KEY_SECONDS; where there is none, the content is not
kept and the chat goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

import structlog
from realmultillm.analytics.v1 import chat_content_pb2
from realmultillm.analytics.v1 import usage_ingest_service_pb2 as analytics
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.sealed_content import seal
from libs.worker.data_keys import AccountKey
from libs.worker.kept_answer import KeptAnswer
from libs.worker.kept_requests import MOST_BYTES, KeptRequest

log = structlog.get_logger()

# How long a key may take, counted from the beginning of the chat. Vault makes one in a few milliseconds.
KEY_SECONDS = 2.0
# How often it is logged that contents are not kept.
_LOG_SECONDS = 10.0


class Outcome(Enum):
    """What becomes of the content of a chat. The values are those of a label of metrics."""

    KEPT = "kept"
    PICTURES_LEFT_OUT = "pictures_left_out"
    """Kept without the pictures of the request."""
    TOO_LARGE = "too_large"
    """All that is kept is that it was too large."""
    NO_KEY = "no_key"
    """Not kept: there was no data key in time."""
    OUTBOX_FULL = "outbox_full"
    """Not kept: what room is left in the outbox is for records."""
    FAILED = "failed"
    """Not kept, by a fault of this platform."""


class Keys(Protocol):
    """Data keys of accounts."""

    def at_hand(self, user_id: str, *, waited: bool = False) -> AccountKey | None:
        """Returns the key to seal one record with; None when it must be asked for."""
        ...

    def asked_for(self, user_id: str) -> asyncio.Task[Any]:
        """Has it made; it is at hand when the task has ended well. The task is never to be cancelled."""
        ...


class History:
    """Keeps contents with keys of `keys`, unless the outbox is `nearly_full`.

    `key_seconds` is how long a key may take, counted from the beginning of the chat.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        nearly_full: Callable[[], bool] = lambda: False,
        key_seconds: float = KEY_SECONDS,
    ) -> None:
        self.keys = keys
        self.key_seconds = key_seconds
        self.slow = False
        """True while keys do not come in time: then no chat waits for its own."""
        self.counts = dict.fromkeys(Outcome, 0)
        """What has become of contents so far."""
        self._nearly_full = nearly_full
        self._logged_at = float("-inf")
        self._unlogged = 0

    def begin(self, user_id: str, request: KeptRequest) -> KeptContent | None:
        """Begins to keep a chat of a person; None where there is no room for it."""
        if self._nearly_full():
            self.note(Outcome.OUTBOX_FULL)
            return None
        return KeptContent(self, user_id, request)

    def key_came(self, asked_for: asyncio.Task[Any]) -> None:
        """Hears of a key that came late: if it came at all, the next ones are waited for again."""
        if not asked_for.cancelled() and asked_for.exception() is None:
            self.slow = False

    def note(self, outcome: Outcome) -> None:
        """Counts what has become of a content."""
        self.counts[outcome] += 1
        if outcome is Outcome.NO_KEY or outcome is Outcome.OUTBOX_FULL:
            self._unlogged += 1
            now = time.monotonic()
            if now - self._logged_at >= _LOG_SECONDS:
                log.warning("contents of chats not kept", why=outcome.value, chats=self._unlogged)
                self._logged_at, self._unlogged = now, 0


class KeptContent:
    """What is said in one chat, until it is sealed into its record."""

    __slots__ = ("_asked_for", "_by", "_history", "_key", "_left", "_request", "_user_id", "completion", "said")

    def __init__(self, history: History, user_id: str, request: KeptRequest) -> None:
        self._history = history
        self._user_id = user_id
        self._request = request
        self._asked_for: asyncio.Task[Any] | None = None
        self._by = 0.0
        self._left: asyncio.CancelledError | None = None
        self._key = history.keys.at_hand(user_id)
        if self._key is None:
            self._by = asyncio.get_running_loop().time() + history.key_seconds
            self._asked_for = history.keys.asked_for(user_id)
            if history.slow:
                self._asked_for.add_done_callback(history.key_came)
        self.completion: chat.ChatCompletion | None = None
        """The answer, where it came whole."""
        self.said: KeptAnswer | None = None
        """The answer, where it is collected."""

    def listen(self) -> KeptAnswer:
        """Begins to collect an answer; what an attempt before has said is let go."""
        self.said = KeptAnswer()
        return self.said

    async def __aenter__(self) -> KeptContent:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        """Waits for the key, unless the caller has left. A cancellation meanwhile is kept for `settled`."""
        if self._asked_for is None or self._asked_for.done() or self._history.slow:
            return
        seconds = self._by - asyncio.get_running_loop().time()
        if seconds <= 0 or not (error is None or isinstance(error, Exception)):
            return
        try:
            await asyncio.wait((self._asked_for,), timeout=seconds)
        except asyncio.CancelledError as left:
            # The answer is whole, or has failed: it must be accounted for as what it is.
            self._left = left
        else:
            if not self._asked_for.done():
                self._history.slow = True
                self._asked_for.add_done_callback(self._history.key_came)

    def settled(self) -> None:
        """Hears that the chat is accounted for. Raises the cancellation that came while its key was waited for."""
        left, self._left = self._left, None
        if left is not None:
            try:
                raise left
            finally:
                del left  # it knows this frame, which knows the key

    def seal_into(self, record: analytics.UsageRecord) -> None:
        """Adds the content, sealed, to the record of the chat; where it cannot, that stays without. Never fails."""
        try:
            outcome = self._seal_into(record)
        except Exception:  # a chat must not fail, nor go without its record, because it cannot be kept
            log.exception("content of a chat not sealed", record=record.id, request_id=record.request_id)
            record.ClearField("content")
            outcome = Outcome.FAILED
        self._history.note(outcome)

    def _seal_into(self, record: analytics.UsageRecord) -> Outcome:
        key = self._taken_key()
        if key is None:
            return Outcome.NO_KEY
        outcome, plaintext = self._plaintext()
        record.content.sealed = seal(key.key, plaintext, record_id=record.id, user_id=self._user_id)
        record.content.wrapped_key = key.wrapped
        return outcome

    def _taken_key(self) -> AccountKey | None:
        if self._key is None and self._asked_for is not None and self._asked_for.done():
            self._key = self._history.keys.at_hand(self._user_id, waited=True)
        return self._key

    def content(self) -> chat_content_pb2.ChatContent:
        """Returns what has been said so far, however long."""
        content = chat_content_pb2.ChatContent()
        self._request.put_into(content)
        self._put_answer_into(content)
        return content

    def _plaintext(self) -> tuple[Outcome, bytes]:
        content = chat_content_pb2.ChatContent()
        if self.said is None or not self.said.too_long:
            if not self._request.heavy:
                self._request.put_into(content)
                self._put_answer_into(content)
                plaintext = content.SerializeToString()
                if len(plaintext) <= MOST_BYTES:
                    return Outcome.KEPT, plaintext
                content.Clear()
            if self._request.put_lighter_into(content):
                content.pictures_left_out = True
                self._put_answer_into(content)
                plaintext = content.SerializeToString()
                if len(plaintext) <= MOST_BYTES:
                    return Outcome.PICTURES_LEFT_OUT, plaintext
        nothing = chat_content_pb2.ChatContent(left_out=True)
        return Outcome.TOO_LARGE, nothing.SerializeToString()

    def _put_answer_into(self, content: chat_content_pb2.ChatContent) -> None:
        if self.completion is not None:
            content.completion.id = self.completion.id
            content.completion.choices.extend(self.completion.choices)
        elif self.said is not None and self.said.begun:
            self.said.put_into(content.completion)
