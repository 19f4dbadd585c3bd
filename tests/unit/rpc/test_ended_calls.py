"""Calls under way whose token is revoked: they end with it, wherever they are, and nobody else's does."""

import asyncio
import time
from typing import Any

import grpc
import pytest

from libs.errors import NotFound, Unauthenticated, Unavailable
from libs.redaction import Secret
from libs.rpc.identity import Call, current_call
from tests.support.rpc import KnownTokens, bearer, error_info
from tests.support.waiting import eventually, within_bound
from tests.unit.rpc.conftest import Behavior, Client, Echo, raising


class Waiting:
    """A method that waits until it is ended."""

    def __init__(self) -> None:
        self.begun = asyncio.Queue[str]()
        self.cancelled = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, requests: list[bytes], context: Any) -> None:
        self.begun.put_nowait(requests[0].decode())
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@pytest.fixture
async def waiting(echo: Echo) -> Waiting:
    waiting = Waiting()
    echo.behavior = waiting
    return waiting


async def begun(envoy: Client, waiting: Waiting, token: Secret, method: str = "personal") -> Any:
    """Begins a call of a person, and returns it when the method has it."""
    kind = "unary_stream" if method == "Watched" else "unary_unary"
    call = envoy.open(method, b"x", kind=kind, metadata=bearer(token))
    if kind == "unary_stream":
        reading = asyncio.ensure_future(call.read())
        await within_bound(waiting.begun.get())
        return reading
    await within_bound(waiting.begun.get())
    return asyncio.ensure_future(_answer(call))


async def _answer(call: Any) -> bytes:
    answer: bytes = await call
    return answer


async def error_of(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await within_bound(call)
    return caught.value


class TestRevoked:
    # `Watched` has no deadline of its own.
    @pytest.mark.parametrize("method", ["personal", "Watched"])
    async def test_the_call_ends_at_once(
        self, envoy: Client, waiting: Waiting, tokens: KnownTokens, method: str
    ) -> None:
        token = tokens.issue("usr_1")
        call = await begun(envoy, waiting, token, method)
        tokens.revoke(token)
        error = await error_of(call)
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert error_info(error).reason == "UNAUTHENTICATED"
        await within_bound(waiting.cancelled.wait())

    async def test_every_call_of_it_ends(self, envoy: Client, waiting: Waiting, tokens: KnownTokens) -> None:
        token = tokens.issue("usr_1")
        calls = [await begun(envoy, waiting, token) for _ in range(3)]
        tokens.revoke(token)
        assert [(await error_of(call)).code().name for call in calls] == ["UNAUTHENTICATED"] * 3

    async def test_calls_of_other_tokens_go_on(self, envoy: Client, waiting: Waiting, tokens: KnownTokens) -> None:
        token, other_of_the_same, of_another = tokens.issue("usr_1"), tokens.issue("usr_1"), tokens.issue("usr_2")
        ended = await begun(envoy, waiting, token)
        going_on = [await begun(envoy, waiting, other) for other in (other_of_the_same, of_another)]
        tokens.revoke(token)
        await error_of(ended)
        assert not any(call.done() for call in going_on)
        waiting.go_on.set()
        assert await asyncio.gather(*going_on) == [b"x", b"x"]

    async def test_what_was_said_before_has_arrived(self, envoy: Client, echo: Echo, tokens: KnownTokens) -> None:
        async def say_and_wait(requests: list[bytes], context: Any) -> None:
            await context.write(b"said")
            await asyncio.Event().wait()

        echo.behavior = say_and_wait
        token = tokens.issue("usr_1")
        call = envoy.open("Watched", b"x", kind="unary_stream", metadata=bearer(token))
        assert await call.read() == b"said"
        tokens.revoke(token)
        assert (await error_of(call.read())).code() is grpc.StatusCode.UNAUTHENTICATED

    async def test_a_call_that_is_over_stays_as_it_ended(self, envoy: Client, echo: Echo, tokens: KnownTokens) -> None:
        token = tokens.issue("usr_1")
        assert await envoy.open("personal", b"x", metadata=bearer(token)) == b"x"
        tokens.revoke(token)
        echo.calls[0].end(Unauthenticated("Too late."))  # whoever still holds it
        assert echo.calls[0].ended_by is None


class TestHolding:
    @pytest.mark.parametrize("behavior", [None, raising(NotFound("No.")), raising(RuntimeError())])
    async def test_a_call_is_let_go_however_it_ends(
        self, envoy: Client, echo: Echo, tokens: KnownTokens, behavior: Behavior | None
    ) -> None:
        held: list[int] = []

        async def note(requests: list[bytes], context: Any) -> None:
            held.append(len(tokens.live_calls))
            if behavior is not None:
                await behavior(requests, context)

        echo.behavior = note
        call = envoy.open("personal", b"x", metadata=bearer(tokens.issue("usr_1")))
        await asyncio.wait([asyncio.ensure_future(call.code())])
        assert held == [1]
        assert len(tokens.live_calls) == 0

    async def test_one_whose_caller_leaves_is_let_go(
        self, envoy: Client, waiting: Waiting, tokens: KnownTokens
    ) -> None:
        call = envoy.open("personal", b"x", metadata=bearer(tokens.issue("usr_1")))
        await within_bound(waiting.begun.get())
        call.cancel()

        async def held() -> int:
            return len(tokens.live_calls)

        await eventually(held, lambda number: number == 0)

    async def test_one_that_needs_no_person_is_not_held(
        self, envoy: Client, waiting: Waiting, tokens: KnownTokens
    ) -> None:
        call = envoy.open("unary_unary", b"x", metadata=bearer(tokens.issue("usr_1")))
        await within_bound(waiting.begun.get())
        assert len(tokens.live_calls) == 0
        waiting.go_on.set()
        await call


class TestEnd:
    """Ending a call by hand, in the places where that could go wrong."""

    async def test_the_first_reason_stays(self, envoy: Client, waiting: Waiting, tokens: KnownTokens) -> None:
        call = await begun(envoy, waiting, tokens.issue("usr_1"))
        for reason in ("first", "second"):
            tokens.live_calls.end("token-of-usr_1", Unavailable(f"the {reason} reason"))
            await asyncio.sleep(0)
        assert (await error_of(call)).details() == "the first reason"

    async def test_one_that_is_spared_comes_to_its_own_answer(
        self, envoy: Client, echo: Echo, tokens: KnownTokens
    ) -> None:
        token = tokens.issue("usr_1")

        async def end_itself(requests: list[bytes], context: Any) -> None:
            current_call().spare()
            tokens.revoke(token)
            await asyncio.sleep(0)

        echo.behavior = end_itself
        assert await envoy.open("personal", b"x", metadata=bearer(token)) == b"x"

    async def test_one_without_a_deadline_around_it_is_left_alone(self) -> None:
        call = Call("/test.v1.Echo/personal", context=None)
        call.end(Unavailable("too early"))
        assert call.ended_by is None

    async def test_the_deadline_is_still_the_deadline(self, envoy: Client, waiting: Waiting) -> None:
        assert error_info(await envoy.refused("brief")).reason == "DEADLINE_EXCEEDED"


class TestExpiry:
    async def test_a_call_ends_with_its_token(self, envoy: Client, waiting: Waiting, tokens: KnownTokens) -> None:
        expiring = tokens.issue("usr_1", expire_time=time.time() + 0.2)
        staying = await begun(envoy, waiting, tokens.issue("usr_2"))
        error = await error_of(await begun(envoy, waiting, expiring))
        assert error_info(error).reason == "UNAUTHENTICATED"
        assert waiting.cancelled.is_set()
        waiting.go_on.set()
        assert await within_bound(staying) == b"x"
