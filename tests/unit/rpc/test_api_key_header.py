"""The token of a person may come as `x-api-key` where the SDKs of Anthropic call, and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from libs.rpc.access_policy import for_role
from libs.rpc.channel import open_channel
from libs.rpc.identity import caller
from tests.support.rpc import Identities, KnownTokens, error_info, running

MESSAGES = "/realmultillm.anthropic.v1.MessageService/CountMessageTokens"
MODELS = "/realmultillm.openai.v1.ModelService/GetModels"
CHATS = "/realmultillm.openai.v1.ChatCompletionService/CreateChatCompletion"
OTHER = "/realmultillm.analytics.v1.AnalyticsService/GetUsage"
METHODS = (MESSAGES, MODELS, CHATS, OTHER)


async def whose(_request: bytes, _context: Any) -> bytes:
    """Answers who calls."""
    return caller().user_id.encode()


def register(server: grpc.aio.Server) -> None:
    """Serves all the methods."""
    for method in METHODS:
        _, service, name = method.split("/")
        handlers = {name: grpc.unary_unary_rpc_method_handler(whose)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))


@pytest.fixture(scope="module")
def tokens() -> KnownTokens:
    return KnownTokens()


@pytest.fixture(scope="module")
async def channel(identity: Identities, tokens: KnownTokens) -> AsyncIterator[grpc.aio.Channel]:
    policy = {method: for_role("user", {"envoy"}, scopes={"chat"}) for method in METHODS}
    async with AsyncExitStack() as stack:
        tls = identity("provider-router")
        address = await stack.enter_async_context(running(tls, register, policy=policy, tokens=tokens))
        yield await stack.enter_async_context(open_channel(address, "provider-router", identity("envoy")))


async def ask(channel: grpc.aio.Channel, method: str, *metadata: tuple[str, str]) -> str:
    """Returns who the call was for, or the reason of the refusal."""
    try:
        answer = await channel.unary_unary(method)(b"", metadata=metadata, timeout=10)
    except grpc.aio.AioRpcError as error:
        return str(error_info(error).reason)
    return str(answer, "utf-8")


@pytest.mark.parametrize("method", [MESSAGES, MODELS])
async def test_it_is_the_token(channel: grpc.aio.Channel, tokens: KnownTokens, method: str) -> None:
    token = tokens.issue("usr_1").reveal()

    assert await ask(channel, method, ("x-api-key", token)) == "usr_1"
    assert await ask(channel, method, ("authorization", f"Bearer {token}"), ("x-api-key", token)) == "usr_1"
    # As where a page calls with the cookie of somebody and the key of somebody else: what is said in the call counts.
    other = tokens.issue("usr_2").reveal()
    assert await ask(channel, method, ("cookie", f"rml_session={other}"), ("x-api-key", token)) == "usr_1"


@pytest.mark.parametrize("method", [MESSAGES, MODELS])
async def test_who_says_two_things_is_nobody(channel: grpc.aio.Channel, tokens: KnownTokens, method: str) -> None:
    one, other = (tokens.issue(user).reveal() for user in ("usr_1", "usr_2"))

    for metadata in (
        [("authorization", f"Bearer {one}"), ("x-api-key", other)],
        [("x-api-key", one), ("x-api-key", other)],
        [("x-api-key", one), ("x-api-key", one)],
        [("authorization", f"Bearer {one}"), ("x-api-key", "")],
        [("authorization", f"Basic {one}"), ("x-api-key", one)],
        [("x-api-key", f"Bearer {one}")],
        [("x-api-key", "")],
        [("x-api-key", "sk-ant-somebody-s-own-key")],
    ):
        assert await ask(channel, method, *metadata) == "UNAUTHENTICATED", metadata


@pytest.mark.parametrize("method", [CHATS, OTHER])
async def test_elsewhere_it_is_nothing(channel: grpc.aio.Channel, tokens: KnownTokens, method: str) -> None:
    one, other = (tokens.issue(user).reveal() for user in ("usr_1", "usr_2"))

    assert await ask(channel, method, ("x-api-key", one)) == "UNAUTHENTICATED"
    assert await ask(channel, method, ("authorization", f"Bearer {one}"), ("x-api-key", other)) == "usr_1"
