"""The limit of a person over two replicas of a worker: exact while they share Redis, and no chat fails without it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.infrastructure import ROOT
from deploy.local.ports import PortReservation
from deploy.local.stack import LocalStack
from libs.rpc.channel import open_channel
from tests.e2e.conftest import Person, Platform, error_of, running_platform
from tests.support.envoy import running_envoy
from tests.support.waiting import eventually, within_bound

LIMIT = 100
CLIENTS = 20


@dataclass(frozen=True)
class Replica:
    """One process of worker-openai, with the file it logs to."""

    address: str
    log: Path

    def served(self, person: Person) -> int:
        """Counts the chats of a person that it has answered."""
        lines = [line for line in self.log.read_text().splitlines() if person.user_id in line]
        return sum('"code":"OK"' in line and "CreateChatCompletion" in line for line in lines)

    def counted_alone(self, person: Person) -> int:
        """Counts the chats of a person that it has counted without Redis."""
        return sum(person.user_id in line and '"limits":"alone"' in line for line in self.log.read_text().splitlines())


@dataclass(frozen=True)
class Replicas:
    """A platform with two replicas of worker-openai behind one Envoy, which have the limits of production."""

    platform: Platform
    replicas: tuple[Replica, Replica]
    url: str

    @asynccontextmanager
    async def person(self) -> AsyncIterator[Person]:
        """Signs somebody up who chats with whichever replica Envoy chooses."""
        async with self.platform.person() as person:
            headers = {"authorization": f"Bearer {person.token}"}
            async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30) as http:
                yield replace(person, http=http)

    async def asked_of_provider(self, person: Person) -> int:
        """Counts the chats of a person that have reached the provider."""
        received = await self.platform.sandbox.requests(key=person.key)
        return sum(request.path.endswith("/chat/completions") for request in received)

    async def redis_healths(self) -> list[int]:
        """Returns what each replica says of Redis."""
        return [await self._redis_health(replica.address) for replica in self.replicas]

    async def _redis_health(self, address: str) -> int:
        async with open_channel(address, "worker-openai", self.platform.stack.tls()) as channel:
            request = health_pb2.HealthCheckRequest(service="redis")
            answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)
            return int(answer.status)

    async def all_share_redis(self) -> None:
        """Waits until both count in Redis."""
        await eventually(self.redis_healths, lambda found: set(found) == {health_pb2.HealthCheckResponse.SERVING})


@asynccontextmanager
async def second_worker(stack: LocalStack, folder: Path) -> AsyncIterator[Replica]:
    """Runs a second worker with the settings of the first, and ports of its own."""
    reservation = PortReservation()
    ports = reservation.take(["second", "metrics"], {})
    replica = Replica(f"127.0.0.1:{ports['second']}", folder / "log")
    own = {
        "WORKER_LISTEN": replica.address,
        "WORKER_METRICS_LISTEN": f"127.0.0.1:{ports['metrics']}",
        "WORKER_DATA_DIR": str(folder),
    }
    with replica.log.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.workers.openai"),
            cwd=ROOT,
            env={**stack.environment("worker-openai"), **own, "PATH": os.environ["PATH"]},
            stdout=log,
            stderr=log,
        )
    try:
        yield replica
    finally:
        process.terminate()
        await within_bound(process.wait())
        reservation.release()


@pytest.fixture(scope="module")
async def replicas(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Replicas]:
    # All people of these tests sign up from one address.
    arguments = {"only": ["worker-openai", "envoy"], "settings": {"auth": {"AUTH_RATE_LIMITS": "SignUp=1000/minute"}}}
    async with running_platform(tmp_path_factory.mktemp("stack"), rate_limits=True, **arguments) as platform:
        stack = platform.stack
        async with second_worker(stack, tmp_path_factory.mktemp("second")) as second:
            first = Replica(stack.address("worker-openai"), stack.log_path("worker-openai"))
            clusters = {name: [stack.address(name)] for name in ("auth", "key-vault", "analytics", "provider-router")}
            clusters["worker-openai"] = [first.address, second.address]
            # Envoy asks at its start who is well, and then every two seconds.
            await eventually(partial(_answers, Replicas(platform, (first, second), "")), bool)
            envoy = running_envoy(tmp_path_factory.mktemp("envoy"), stack.layout.pki, clusters)
            async with envoy as front_door:
                replicas = Replicas(platform, (first, second), front_door.url)
                await replicas.all_share_redis()
                yield replicas


async def _answers(replicas: Replicas) -> bool:
    """Tells whether both workers serve."""
    try:
        await replicas.redis_healths()
    except grpc.aio.AioRpcError:
        return False
    return True


async def chats(person: Person, count: int, *, clients: int = CLIENTS) -> Counter[int]:
    """Chats a number of times, several at once, and counts the status codes of the answers."""
    turns = iter(range(count))
    statuses: Counter[int] = Counter()

    async def client() -> None:
        for _ in turns:
            response = await person.chat()
            statuses[response.status_code] += 1

    await asyncio.gather(*(client() for _ in range(clients)))
    return statuses


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class TestTwoReplicas:
    async def test_of_103_chats_in_a_minute_exactly_100_pass(self, replicas: Replicas):
        async with replicas.person() as person:
            responses = [await person.chat() for _ in range(103)]
            assert [response.status_code for response in responses] == [200] * 100 + [429] * 3
            for number, response in enumerate(responses):
                assert response.headers["ratelimit-limit"] == "100"
                assert int(response.headers["ratelimit-remaining"]) == max(99 - number, 0)
                assert 1 <= int(response.headers["ratelimit-reset"]) <= 60
            for response in responses[100:]:
                assert error_of(response) == (429, "RATE_LIMIT_EXCEEDED")
                assert response.headers["retry-after"] == response.headers["ratelimit-reset"]
            assert await replicas.asked_of_provider(person) == 100
            # Both had their part in it, and neither counted alone.
            await eventually(partial(_served, replicas, person), lambda served: sum(served) == 100)
            assert min(await _served(replicas, person)) > 20
            assert [replica.counted_alone(person) for replica in replicas.replicas] == [0, 0]

    @pytest.mark.parametrize("free", [1, 10, 19])
    async def test_20_clients_at_the_edge_never_make_it_101(self, replicas: Replicas, free: int):
        async with replicas.person() as person:
            assert await chats(person, LIMIT - free) == {200: LIMIT - free}
            assert await chats(person, 3 * CLIENTS) == {200: free, 429: 3 * CLIENTS - free}
            assert await replicas.asked_of_provider(person) == LIMIT

    async def test_a_person_at_their_limit_is_in_nobodys_way(self, replicas: Replicas):
        async with replicas.person() as first, replicas.person() as second:
            assert (await chats(first, LIMIT + 5))[429] == 5
            assert await chats(second, 5) == {200: 5}
            # A streamed chat is another method.
            async with first.stream() as response:
                assert response.status_code == 200
                assert response.headers["ratelimit-remaining"] == "99"
                await response.aread()


class TestWithoutRedis:
    async def test_frozen_while_people_chat(self, replicas: Replicas):
        async with replicas.person() as person:
            assert await chats(person, 10) == {200: 10}
            with frozen(await replicas.platform.stack.pid("redis")):
                assert await chats(person, 60) == {200: 60}
                assert [replica.counted_alone(person) > 0 for replica in replicas.replicas] == [True, True]
                answer = await person.http.get("/api/health")
                assert answer.status_code == 200
            await replicas.all_share_redis()
        await self._exact_again(replicas)

    async def test_killed_while_people_chat(self, replicas: Replicas):
        stack = replicas.platform.stack
        async with replicas.person() as person:
            chatting = asyncio.create_task(chats(person, 90))
            await eventually(partial(replicas.asked_of_provider, person), lambda count: count > 10)
            await stack.kill("redis")
            assert await within_bound(chatting) == {200: 90}
            await stack.wait_ready("redis")
            await replicas.all_share_redis()
        await self._exact_again(replicas)

    async def _exact_again(self, replicas: Replicas) -> None:
        async with replicas.person() as person:
            assert await chats(person, LIMIT + 10) == {200: LIMIT, 429: 10}


async def _served(replicas: Replicas, person: Person) -> list[int]:
    return [replica.served(person) for replica in replicas.replicas]
