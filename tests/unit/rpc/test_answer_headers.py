"""What a call answers with beside its messages: initial metadata, which become the headers of an HTTP answer."""

from typing import Any

import grpc
import pytest

from libs.errors import NotFound
from libs.rpc.identity import current_call
from tests.unit.rpc.conftest import KINDS, Behavior, Client, Echo

ONE, OTHER = ("set-cookie", "a=1"), ("set-cookie", "b=2")


def answering(*headers: tuple[str, str], then: Behavior | None = None) -> Behavior:
    """A method that answers with these headers."""

    async def behavior(requests: list[bytes], context: Any) -> None:
        current_call().answer_headers += headers
        if then is not None:
            await then(requests, context)

    return behavior


async def fail(requests: list[bytes], context: Any) -> None:
    raise NotFound("No such thing.")


async def write_and_fail(requests: list[bytes], context: Any) -> None:
    await context.write(b"first")
    await context.write(b"second")
    raise NotFound("No such thing.")


async def say_nothing(requests: list[bytes], context: Any) -> None:
    requests.clear()


class TestAnswer:
    @pytest.mark.parametrize(
        ("method", "kind"),
        [
            ("unary_unary", "unary_unary"),
            ("stream_unary", "stream_unary"),
            ("stream_stream", "stream_stream"),
            ("written", "unary_stream"),
        ],
    )
    async def test_its_headers_go_before_it(self, envoy: Client, echo: Echo, method: str, kind: str) -> None:
        echo.behavior = answering(ONE, OTHER)
        call = envoy.open(method, b"x", kind=kind)
        assert list(await call.initial_metadata()) == [ONE, OTHER]
        assert ([message async for message in call] if kind.endswith("stream") else [await call]) == [b"x"]
        assert list(await call.trailing_metadata()) == []

    async def test_a_stream_without_messages_has_them(self, envoy: Client, echo: Echo) -> None:
        echo.behavior = answering(ONE, then=say_nothing)
        call = envoy.open("written", b"x", kind="unary_stream")
        assert list(await call.initial_metadata()) == [ONE]
        assert [message async for message in call] == []
        assert list(await call.trailing_metadata()) == []

    async def test_one_call_has_nothing_of_another(self, envoy: Client, echo: Echo) -> None:
        echo.behavior = answering(ONE)
        await envoy.open("unary_unary", b"x")
        echo.behavior = answering()
        assert list(await envoy.open("unary_unary", b"x").initial_metadata()) == []


class TestError:
    """An error before the first message is all there is: what comes with it becomes headers too."""

    @pytest.mark.parametrize("kind", [*(kind for kind in KINDS if kind != "unary_stream"), "written"])
    async def test_takes_the_headers_along(self, envoy: Client, echo: Echo, kind: str) -> None:
        echo.behavior = answering(ONE, OTHER, then=fail)
        error = await envoy.refused(kind, "unary_stream" if kind == "written" else kind)
        assert list(error.initial_metadata()) == []
        assert [pair for pair in error.trailing_metadata() if pair[0] == "set-cookie"] == [ONE, OTHER]

    async def test_a_bug_takes_them_along(self, envoy: Client, echo: Echo) -> None:
        async def bug(requests: list[bytes], context: Any) -> None:
            raise RuntimeError

        echo.behavior = answering(ONE, then=bug)
        error = await envoy.refused("unary_unary")
        assert error.code() is grpc.StatusCode.INTERNAL
        assert ONE in list(error.trailing_metadata())

    async def test_after_the_first_message_they_are_not_said_again(self, envoy: Client, echo: Echo) -> None:
        echo.behavior = answering(ONE, then=write_and_fail)
        call = envoy.open("written", b"x", kind="unary_stream")
        assert [await call.read(), await call.read()] == [b"first", b"second"]
        assert await call.code() is grpc.StatusCode.NOT_FOUND
        assert list(await call.initial_metadata()) == [ONE]
        assert "set-cookie" not in dict(await call.trailing_metadata())
