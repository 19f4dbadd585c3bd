"""One connection to Redis for all of a process: calls are written at once, and answered in the order they were made.

A connection that lets a call wait is given up, with everything that waits on it, and never mended: open another.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import hiredis

from libs.redaction import Secret
from libs.settings import SettingsError

# How long a call waits for its answer, in seconds, and how much longer for what this process itself kept from being
# read. Together with the time to count otherwise, less than a quarter of a second.
_ANSWER_SECONDS = 0.2
_UNREAD_SECONDS = 0.03
_CONNECT_SECONDS = 1.0

_PORT = 6379
_FORM = "redis://:password@host:6379/0, or with rediss for TLS (and ?ssl_ca_certs=file for an authority of your own)"
_INCOMPLETE = object()


class RedisError(Exception):
    """Redis did not do what it was asked; the message says why and holds nothing of what was sent."""


class RedisLost(RedisError):
    """The connection is gone. What was asked may have been done or not."""


class RedisRefused(RedisError):
    """Redis answered with an error; `code` is its first word, such as NOSCRIPT."""

    def __init__(self, code: str) -> None:
        # The rest of the text may repeat the command, and so a password.
        super().__init__(f"it answered {code}")
        self.code = code


@dataclass(frozen=True, slots=True)
class RedisServer:
    """Where a Redis is and how to sign in there. `tls` None is a connection in the clear."""

    host: str
    port: int
    user: str
    password: Secret
    database: int
    tls: ssl.SSLContext | None

    @classmethod
    def at(cls, url: Secret) -> Self:
        """Reads a URL. Raises SettingsError when it is none, or names an authority that cannot be read."""
        try:
            parts = urlsplit(url.reveal())
            options = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
            authority = options.pop("ssl_ca_certs", None)
            secure = parts.scheme == "rediss"
            if options or not parts.hostname or not (secure or (parts.scheme == "redis" and authority is None)):
                raise ValueError
            return cls(
                parts.hostname,
                parts.port or _PORT,
                unquote(parts.username or ""),
                Secret(unquote(parts.password or "")),
                int(parts.path.strip("/") or "0"),
                ssl.create_default_context(cafile=authority) if secure else None,
            )
        except ValueError:  # its text may hold a part of the URL
            raise SettingsError(f"Settings are not usable:\n  …_REDIS_URL must be like {_FORM}") from None
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise SettingsError(
                f"Settings are not usable:\n  …_REDIS_URL: the file of ssl_ca_certs cannot be used: {reason}"
            ) from None


class RedisConnection(asyncio.Protocol):
    """A connection, open until `lost`; `cause` then says why."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.lost = asyncio.Event()
        self.cause = ""
        self._transport: Any = None
        self._reader = hiredis.Reader(notEnoughData=_INCOMPLETE)
        # Each with the time of the loop's clock at which its answer is due.
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._overdue: asyncio.Future[Any] | None = None

    async def call(self, *words: str | bytes | int) -> Any:
        """Calls a command and returns the answer. Raises RedisLost and RedisRefused, after a fraction of a second."""
        if self.lost.is_set():
            raise RedisLost(self.cause)
        answer: asyncio.Future[Any] = self._loop.create_future()
        due = self._loop.time() + _ANSWER_SECONDS
        self._waiting.append((answer, due))
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._look)
        self._transport.write(hiredis.pack_command(words))  # type: ignore[arg-type] # its stub means tuples of any length
        return await answer

    def give_up(self, cause: str) -> None:
        """Closes the connection at once, for a reason; does nothing when it is closed."""
        if self.lost.is_set():
            return
        self.cause = cause
        self.lost.set()
        if self._transport is not None:
            self._transport.abort()
        if self._timer is not None:
            self._timer.cancel()
        while self._waiting:
            answer, _ = self._waiting.popleft()
            if not answer.done():
                answer.set_exception(RedisLost(cause))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _INCOMPLETE:
                # Also for a caller who has left: the answers after it are others'.
                answer, _ = self._waiting.popleft()
                if answer.done():
                    continue
                if isinstance(reply, hiredis.ReplyError):
                    answer.set_exception(RedisRefused(_first_word(reply)))
                else:
                    answer.set_result(reply)
        except (hiredis.ProtocolError, IndexError):
            self.give_up("it does not speak as Redis does")

    def connection_lost(self, exc: Exception | None) -> None:
        self.give_up("it closed the connection" if exc is None else type(exc).__name__)

    def _look(self) -> None:
        """Gives up when the oldest call has waited too long. One timer for all calls, set anew a few times a second."""
        self._timer = None
        if not self._waiting:
            return
        answer, due = self._waiting[0]
        if self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._look)
        elif self._overdue is not answer:
            # Behind a pause of this process the answer may be there unread; what is there is read before the next look.
            self._overdue = answer
            self._timer = self._loop.call_later(_UNREAD_SECONDS, self._look)
        else:
            self.give_up("it does not answer")


async def open_redis(server: RedisServer) -> RedisConnection:
    """Connects and signs in. Raises RedisError when that fails; it does after some seconds at most."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, connection = await loop.create_connection(RedisConnection, server.host, server.port, ssl=server.tls)
    except (OSError, TimeoutError) as error:
        raise RedisLost(f"it cannot be reached: {type(error).__name__}") from None
    try:
        if server.password:
            await connection.call("AUTH", *([server.user] if server.user else []), server.password.reveal())
        if server.database:
            await connection.call("SELECT", server.database)
    except BaseException:
        connection.give_up("it could not be signed in to")
        raise
    return connection


def _first_word(reply: hiredis.ReplyError) -> str:
    # Not what else might stand there: the codes of Redis are capitals.
    word, _, _ = str(reply).partition(" ")
    return word if word.isalpha() and word.isupper() else "an error"
