"""Redis away in every way: hits are answered at once and counted alone, and shared again when it is back."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvloop

from libs import redis_connection
from libs.ratelimit import RateLimiter, connect_limiter
from libs.redaction import Secret
from libs.redis_connection import RedisError, open_redis
from libs.redis_connection import RedisServer as Server
from libs.rpc.identity import Call, enter_call
from tests.integration.rate_limits.conftest import HOUR, PREFIX, allowed, an_hour, is_shared
from tests.support.redis import RedisServer
from tests.support.waiting import eventually, within_bound


def told(logs: list[Any]) -> list[str]:
    """Returns what was logged of Redis."""
    return [line["event"] for line in logs if line["event"].startswith("redis")]


AWAY, BACK = "redis away; limits are counted by this process alone", "redis back; limits are shared again"


async def back(limiter: RateLimiter, redis: RedisServer) -> None:
    """Waits until a limiter has found Redis again."""
    await eventually(partial(is_shared, limiter, redis), bool)


def answered_at_once(hit: Any) -> Any:
    """Returns the result of a coroutine that waits for nothing, and fails if it does."""
    with pytest.raises(StopIteration) as ended:
        hit.send(None)
    return ended.value.value


@asynccontextmanager
async def listening(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Serves on a free port, which it yields."""

    async def answer_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            await answer(reader, writer)
            await reader.read()

    async with await asyncio.start_server(answer_and_close, "127.0.0.1", 0, ssl=tls) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def tls_in_front_of(redis: RedisServer, certificate: Path) -> AsyncIterator[int]:
    """Puts TLS in front of Redis, with the certificate in a folder."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_redis, to_redis = await asyncio.open_connection("127.0.0.1", redis.port)
        await asyncio.gather(copy(reader, to_redis), copy(from_redis, writer))

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "tls.crt", certificate / "tls.key")
    async with listening(forward, context) as port:
        yield port


class TestKilled:
    async def test_counts_alone_and_shares_again_when_it_is_back(
        self, limiter: RateLimiter, other: RateLimiter, redis: RedisServer, logs: list[Any]
    ):
        assert await allowed(limiter, "a", an_hour(5), 3) == 3
        redis.kill()
        # Alone each begins anew, with the whole limit.
        assert await within_bound(allowed(limiter, "a", an_hour(5), 10)) == 5
        assert await within_bound(allowed(other, "a", an_hour(5), 10)) == 5
        with pytest.raises(RedisError):
            await limiter.check()
        redis.start()
        await back(limiter, redis)
        await back(other, redis)
        await limiter.check()
        # Redis has forgotten everything, and knows the script again.
        assert await allowed(limiter, "a", an_hour(5), 3) + await allowed(other, "a", an_hour(5), 10) == 5
        # Once for each cause, and each limiter on its own.
        causes = [line["cause"] for line in logs if line["event"] == AWAY]
        assert causes.count("it closed the connection") == 2
        assert causes.count("it cannot be reached: ConnectionRefusedError") <= 2
        assert told(logs).count(BACK) == 2
        assert all(line["hits_alone"] >= 10 for line in logs if line["event"] == BACK)

    async def test_hits_under_way_are_answered(self, limiter: RateLimiter, redis: RedisServer):
        with redis.frozen():
            hits = [asyncio.create_task(limiter.hit(f"{n}", an_hour(5))) for n in range(50)]
            await asyncio.sleep(0)  # now they wait for Redis
            redis.kill()
        assert {standing.remaining for standing in await within_bound(asyncio.gather(*hits))} == {4}

    async def test_away_at_the_start(self, redis: RedisServer, logs: list[Any]):
        redis.kill()
        async with connect_limiter(redis.url) as limiter:
            assert await allowed(limiter, "a", an_hour(5), 10) == 5
            redis.start()
            await back(limiter, redis)
        assert told(logs) == [AWAY, BACK]


class TestFrozen:
    async def test_answers_all_and_waits_no_more_until_it_is_back(
        self, limiter: RateLimiter, redis: RedisServer, logs: list[Any]
    ):
        with redis.frozen():
            hits = [limiter.hit("a", an_hour(5)) for _ in range(20)]
            standings = await within_bound(asyncio.gather(*hits))
            assert sum(standing.allowed for standing in standings) == 5
            assert not answered_at_once(limiter.hit("a", an_hour(5))).allowed
            assert answered_at_once(limiter.hit("b", an_hour(5))).allowed
        await back(limiter, redis)
        assert [line["cause"] for line in logs if line["event"] == AWAY] == ["it does not answer"]
        # What Redis read when it woke up counts there too: never more than the limit.
        assert await allowed(limiter, "a", an_hour(5), 5) <= 5

    async def test_is_noticed_while_nobody_calls(self, limiter: RateLimiter, redis: RedisServer):
        with redis.frozen():
            with pytest.raises(RedisError):
                await within_bound(limiter.check())
            assert answered_at_once(limiter.hit("a", an_hour(5))).allowed

    async def test_the_call_being_served_is_marked(self, limiter: RateLimiter, redis: RedisServer):
        call = Call("/a/B", None)

        async def serve() -> None:
            enter_call(call)
            await limiter.hit("a", an_hour(5))

        await asyncio.create_task(serve())
        assert "limits" not in call.facts
        with redis.frozen():
            await within_bound(asyncio.create_task(serve()))
        assert call.facts["limits"] == "alone"

    def test_takes_less_than_a_quarter_of_a_second(self):
        assert redis_connection._ANSWER_SECONDS + redis_connection._UNREAD_SECONDS < 0.25

    @pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
    async def test_a_pause_of_the_process_itself_is_no_outage(self, redis: RedisServer, run: Callable[[Any], Any]):
        class Pausing(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                time.sleep(0.3)

        async def hit_and_pause() -> bool:
            ours, theirs = socket.socketpair()
            with theirs:
                transport, _ = await asyncio.get_running_loop().create_connection(Pausing, sock=ours)
                async with connect_limiter(redis.url) as limiter:
                    hit = asyncio.create_task(limiter.hit("a", an_hour(5)))
                    await asyncio.sleep(0)  # now it waits for Redis
                    theirs.send(b"!")
                    await hit
                    transport.close()
                    return await is_shared(limiter, redis)

        assert await asyncio.to_thread(run, hit_and_pause())
        assert redis.call("LLEN", f"{PREFIX}a:{HOUR}") == 1


class TestRefusals:
    async def test_a_wrong_password_is_told_without_it(self, redis: RedisServer, logs: list[Any]):
        wrong = Secret("open-sesame-0815")
        url = Secret(f"redis://:{wrong.reveal()}@127.0.0.1:{redis.port}/0")
        async with connect_limiter(url) as limiter:
            assert await allowed(limiter, "a", an_hour(5), 10) == 5
            assert [line["cause"] for line in logs] == ["it answered WRONGPASS"]
            redis.call("CONFIG", "SET", "requirepass", wrong.reveal())
            redis.password = wrong
            await back(limiter, redis)
        assert told(logs) == [AWAY, BACK]
        assert wrong.reveal() not in str(logs)

    async def test_a_missing_password(self, redis: RedisServer, logs: list[Any]):
        async with connect_limiter(Secret(f"redis://127.0.0.1:{redis.port}")) as limiter:
            assert await allowed(limiter, "a", an_hour(5), 10) == 5
        assert [line["cause"] for line in logs] == ["it answered NOAUTH"]

    async def test_a_user_and_a_database_of_its_own(self, redis: RedisServer):
        rights = ["on", ">pass/word", "~realmultillm:*", "+eval", "+evalsha", "+select", "+@read", "+@write", "+time"]
        redis.call("ACL", "SETUSER", "limits", *rights)
        async with connect_limiter(Secret(f"redis://limits:pass%2Fword@127.0.0.1:{redis.port}/3")) as limiter:
            assert await allowed(limiter, "a", an_hour(5), 2) == 2
        assert "db3:keys=2" in redis.call("INFO", "keyspace")
        redis.call("ACL", "DELUSER", "limits")

    @pytest.mark.parametrize(
        ("break_it", "mend_it"),
        [
            (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
            (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
        ],
        ids=["full", "read-only"],
    )
    async def test_one_that_takes_no_writes_is_as_good_as_none(
        self, limiter: RateLimiter, redis: RedisServer, logs: list[Any], break_it: tuple[str], mend_it: tuple[str]
    ):
        redis.call(*break_it)
        try:
            assert await allowed(limiter, "a", an_hour(5), 10) == 5
        finally:
            redis.call(*mend_it)
        await back(limiter, redis)
        assert told(logs) == [AWAY, BACK]

    async def test_not_redis_at_all(self, logs: list[Any]):
        async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        async with listening(page) as port, connect_limiter(Secret(f"redis://127.0.0.1:{port}")) as limiter:
            assert await allowed(limiter, "a", an_hour(5), 10) == 5
        assert [line["cause"] for line in logs] == ["it does not speak as Redis does"]

    async def test_each_cause_is_told_once(self, logs: list[Any]):
        attempts = 0

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal attempts
            attempts += 1
            writer.write(b"-DENIED by order of somebody\r\n")

        async def attempted() -> int:
            return attempts

        async with listening(refuse) as port, connect_limiter(Secret(f"redis://127.0.0.1:{port}")):
            await eventually(attempted, lambda count: count > 3)
        assert [line["cause"] for line in logs] == ["it answered DENIED"]

    async def test_more_answers_than_were_asked_for(self):
        async def eager(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(b"+PONG\r\n+PONG\r\n")

        async with listening(eager) as port:
            connection = await open_redis(Server.at(Secret(f"redis://127.0.0.1:{port}")))
            assert await connection.call("PING") == b"PONG"
            await within_bound(connection.lost.wait())
            assert connection.cause == "it does not speak as Redis does"
            with pytest.raises(RedisError):
                await connection.call("PING")


class TestForgetfulness:
    async def test_everything_flushed_begins_anew(self, limiter: RateLimiter, redis: RedisServer, logs: list[Any]):
        assert await allowed(limiter, "a", an_hour(5), 10) == 5
        redis.call("FLUSHALL")
        assert await allowed(limiter, "a", an_hour(5), 10) == 5
        assert logs == []

    async def test_a_forgotten_script_is_told_again_and_nothing_is_lost(
        self, limiter: RateLimiter, other: RateLimiter, redis: RedisServer, logs: list[Any]
    ):
        passed = await allowed(limiter, "a", an_hour(40), 10)
        for _ in range(3):
            redis.call("SCRIPT", "FLUSH")
            hits = [(limiter, other)[n % 2].hit("a", an_hour(40)) for n in range(20)]
            passed += sum(standing.allowed for standing in await asyncio.gather(*hits))
        assert passed == 40
        assert logs == []


class TestOrder:
    async def test_who_leaves_takes_nobody_elses_answer(self, redis: RedisServer):
        connection = await open_redis(Server.at(redis.url))
        try:
            calls = [asyncio.create_task(connection.call("ECHO", n)) for n in range(200)]
            await asyncio.sleep(0)  # now all are sent and none is answered
            for call in calls[::3]:
                call.cancel()
            answers = await within_bound(asyncio.gather(*calls, return_exceptions=True))
            for number, answer in enumerate(answers):
                if number % 3 == 0:
                    assert isinstance(answer, asyncio.CancelledError)
                else:
                    assert answer == b"%d" % number
            assert await connection.call("ECHO", "last") == b"last"
        finally:
            connection.give_up("the test is over")

    async def test_a_refusal_is_for_the_call_it_answers(self, redis: RedisServer):
        connection = await open_redis(Server.at(redis.url))
        try:
            calls = (connection.call("INCR"), connection.call("ECHO", "b"))
            answers: Any = await asyncio.gather(*calls, return_exceptions=True)
            assert [str(answers[0]), answers[1]] == ["it answered ERR", b"b"]
        finally:
            connection.give_up("the test is over")


class TestTls:
    async def test_needs_an_authority_it_knows(self, redis: RedisServer, pki_folder: Path, logs: list[Any]):
        authority = pki_folder / "vault" / "ca.crt"
        async with tls_in_front_of(redis, pki_folder / "vault") as port:
            url = f"rediss://:{redis.password.reveal()}@localhost:{port}/0"
            async with connect_limiter(Secret(f"{url}?ssl_ca_certs={authority}")) as limiter:
                assert await is_shared(limiter, redis)
            assert logs == []
            async with connect_limiter(Secret(url)) as limiter:
                assert not await is_shared(limiter, redis)
            assert [line["cause"] for line in logs] == ["it cannot be reached: SSLCertVerificationError"]
