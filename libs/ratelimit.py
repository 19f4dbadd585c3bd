"""How often somebody may do something: exact over all replicas that share a Redis, per process while it is away."""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

import limits
import structlog

from libs.background import beside
from libs.redaction import Secret
from libs.redis_connection import RedisConnection, RedisError, RedisLost, RedisRefused, RedisServer, open_redis
from libs.rpc.access_policy import DEFAULT_LIMIT, AccessPolicy
from libs.rpc.identity import FRONT_DOOR, current_call
from libs.settings import SettingsError
from libs.sliding_log import SCRIPT, Count, SlidingLogs

log = structlog.get_logger()

# The name that stands for all methods that people call as often as is usual, and that are not named in the settings.
DEFAULT = "default"
# The name of what is no method: tokens that turn out not to be valid, by address. An address past the limit is told so
# without its tokens being verified, which costs queries.
INVALID_TOKENS = "InvalidTokens"
_MOST_INVALID_TOKENS = "300/minute"
_UNLIMITED = "unlimited"

# Every hit that counts is remembered for the length of the window.
_MOST_AMOUNT = 1_000_000
_LONGEST_WINDOW = 366 * 86_400
_UNITS = {"day": 86_400, "hour": 3_600, "minute": 60, "second": 1}
_MICROSECONDS = 1_000_000

_KEY = "realmultillm:hits:"
_SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
# Between attempts to reach Redis, in seconds.
_FIRST_DELAY = 0.1
_MAX_DELAY = 2.0


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `amount` in any `window_seconds`."""

    amount: int
    window_seconds: int

    def __str__(self) -> str:
        requests = "1 request" if self.amount == 1 else f"{self.amount} requests"
        unit, seconds = next((unit, each) for unit, each in _UNITS.items() if self.window_seconds % each == 0)
        if self.window_seconds == seconds:
            return f"{requests} {'an' if unit == 'hour' else 'a'} {unit}"
        return f"{requests} in {self.window_seconds // seconds} {unit}s"


@dataclass(frozen=True, slots=True)
class Standing:
    """How somebody stands with a limit after a hit. In `reset_seconds`, rounded up, there is one more than now."""

    allowed: bool
    amount: int
    remaining: int
    reset_seconds: int

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Returns what an answer says of it."""
        return (
            ("ratelimit-limit", str(self.amount)),
            ("ratelimit-remaining", str(self.remaining)),
            ("ratelimit-reset", str(self.reset_seconds)),
        )


class RateLimiter(Protocol):
    """Counts."""

    async def hit(self, key: str, limit: Limit) -> Standing:
        """Counts one for a key, if the limit allows it. Never raises, and answers within a quarter of a second.

        What is counted for one window counts for no other, so that limits of different windows leave each other alone.
        """
        ...

    async def check(self) -> None:
        """Raises RedisError while this process counts alone what it should share."""
        ...

    @property
    def alone(self) -> int:
        """How many were counted by this process alone."""
        ...


def limits_of(policy: AccessPolicy, overrides: Mapping[str, str]) -> dict[str, Limit]:
    """Returns the limit of each method that has one, by its full name: those that the front door may call.

    Where one of them is for people, INVALID_TOKENS has one too. `overrides` are by method name without its service, or
    DEFAULT for all methods with the usual limit, in the form `100/minute`, or `unlimited`. Raises SettingsError for
    those that are malformed or of no method with a limit.
    """
    rules = {method: rule.limit for method, rule in policy.items() if rule.limit and rule.admits_peer(FRONT_DOOR)}
    if any(policy[method].role is not None for method in rules):
        rules[INVALID_TOKENS] = _MOST_INVALID_TOKENS
    found = {method: _parse(limit) for method, limit in rules.items()}
    problems = []
    # What is named wins over the default.
    for name, text in sorted(overrides.items(), key=lambda override: override[0] != DEFAULT):
        methods = [
            method
            for method, limit in rules.items()
            if (limit == DEFAULT_LIMIT if name == DEFAULT else method.rpartition("/")[2] == name)
        ]
        if not methods and name != DEFAULT:
            names = sorted({method.rpartition("/")[2] for method in rules})
            problems.append(f"…_RATE_LIMITS: {name} has no limit here; name one of {', '.join([*names, DEFAULT])}")
        try:
            limit = None if text == _UNLIMITED else _parse(text)
        except ValueError:
            problems.append(
                f"…_RATE_LIMITS: {name} must be like 100/minute or 5 per 30 seconds, at most {_MOST_AMOUNT} and in at "
                f"most a year, or {_UNLIMITED}"
            )
            continue
        for method in methods:
            if limit is None:
                found.pop(method, None)
            else:
                found[method] = limit
    if problems:
        raise SettingsError("Settings are not usable:\n  " + "\n  ".join(problems))
    return found


def _parse(text: str) -> Limit:
    """Reads one limit. Raises ValueError for what is none, or several."""
    # The library takes a window of 0 for one of 1.
    if not all(int(number) for number in re.findall(r"\d+", text)):
        raise ValueError
    (item,) = limits.parse_many(text)
    limit = Limit(item.amount, item.get_expiry())
    if limit.amount > _MOST_AMOUNT or limit.window_seconds > _LONGEST_WINDOW:
        raise ValueError
    return limit


@asynccontextmanager
async def connect_limiter(url: Secret | None) -> AsyncIterator[RateLimiter]:
    """Counts in the Redis at a URL, or in this process alone while that is away, or without a URL.

    A Redis that can be reached is reached when the block begins. Raises SettingsError for a URL that is none.
    """
    if url is None:
        log.warning("no redis; limits are counted by this process alone", missing="…_REDIS_URL")
        yield _ProcessLimiter()
        return
    limiter = _SharedLimiter(RedisServer.at(url))
    async with beside({"redis connection": limiter.keep_connected()}):
        await limiter.tried.wait()
        yield limiter


class _ProcessLimiter:
    """Counts in this process."""

    def __init__(self) -> None:
        self._logs = SlidingLogs(lambda: time.monotonic_ns() // 1000)
        self.alone = 0

    async def hit(self, key: str, limit: Limit) -> Standing:
        return self.count(key, limit)

    async def check(self) -> None:
        pass

    def count(self, key: str, limit: Limit) -> Standing:
        self.alone += 1
        return _standing(limit, self._logs.hit(_name(key, limit), limit.amount, limit.window_seconds * _MICROSECONDS))


class _SharedLimiter:
    """Counts in Redis. Hits that Redis does not answer count in this process, each limit in full."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._connection: RedisConnection | None = None
        self._alone = _ProcessLimiter()
        self._hits_alone = 0
        self._causes: set[str] = set()
        # Set when Redis has been reached, or not, for the first time.
        self.tried = asyncio.Event()

    async def hit(self, key: str, limit: Limit) -> Standing:
        connection = self._connection
        if connection is not None:
            try:
                return _standing(limit, await _count(connection, _KEY + _name(key, limit), limit))
            except RedisRefused as error:
                # Most of what this may be lasts: a full memory, a replica that takes no writes. Connecting tries a hit.
                connection.give_up(str(error))
            except RedisLost:
                pass
        self._hits_alone += 1
        with suppress(LookupError):
            current_call().facts["limits"] = "alone"
        return self._alone.count(key, limit)

    @property
    def alone(self) -> int:
        return self._alone.alone

    async def check(self) -> None:
        if self._connection is None:
            raise RedisLost("limits are counted by this process alone")
        await self._connection.call("PING")

    async def keep_connected(self) -> None:
        """Connects, and connects again whenever the connection is lost, until cancelled."""
        delay = _FIRST_DELAY
        while True:
            try:
                if await self._connected() > _MAX_DELAY:
                    delay = _FIRST_DELAY
            except RedisError as error:
                self._tell_away(str(error))
            except Exception:  # a bug; without this work, Redis would be away for good
                log.exception("redis connection failed; connecting again")
            self.tried.set()
            await asyncio.sleep(random.uniform(delay / 2, delay))  # noqa: S311 - jitter
            delay = min(delay * 2, _MAX_DELAY)

    async def _connected(self) -> float:
        """Has one connection, and returns for how many seconds it lasted. Raises RedisError when there was none."""
        connection = await open_redis(self._server)
        try:
            # A hit that is written down in any case: a Redis that takes none is no help.
            await connection.call("EVAL", SCRIPT, 1, f"{_KEY}trial", _MOST_AMOUNT, _MICROSECONDS)
            began = time.monotonic()
            self._connection = connection
            self._tell_back()
            self.tried.set()
            await connection.lost.wait()
            self._connection = None
            self._tell_away(connection.cause)
            return time.monotonic() - began
        finally:
            self._connection = None
            connection.give_up("it is not needed any more")

    def _tell_away(self, cause: str) -> None:
        # Each cause once: attempts go on.
        if cause not in self._causes:
            log.warning("redis away; limits are counted by this process alone", cause=cause)
        self._causes.add(cause)

    def _tell_back(self) -> None:
        if self._causes:
            log.info("redis back; limits are shared again", hits_alone=self._hits_alone)
        self._causes.clear()
        self._hits_alone = 0


async def _count(connection: RedisConnection, key: str, limit: Limit) -> Count:
    """Counts a hit there. Raises RedisError."""
    words = (1, key, limit.amount, limit.window_seconds * _MICROSECONDS)
    try:
        return Count(*await connection.call("EVALSHA", _SHA, *words))
    except RedisRefused as error:
        if error.code != "NOSCRIPT":
            raise
        # Redis forgets scripts when it is told to, and the new ones do by themselves; this makes it know it again.
        return Count(*await connection.call("EVAL", SCRIPT, *words))


def _name(key: str, limit: Limit) -> str:
    # A shorter window would make the list of a longer one forget.
    return f"{key}:{limit.window_seconds}"


def _standing(limit: Limit, count: Count) -> Standing:
    return Standing(bool(count.allowed), limit.amount, count.remaining, -(-count.reset // _MICROSECONDS))
