"""What the key vault lets the person who calls use of each provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from realmultillm.keyvault.v1.credential_service_pb2 import ListProviderStatesRequest

from libs.rpc.delegation import for_the_caller
from libs.rpc.status import from_rpc_error

_LIST_SECONDS = 2.0
# More than there are providers: the answer comes in one page.
_PAGE_SIZE = 500


@dataclass(frozen=True, slots=True)
class ProviderState:
    """Whether a provider is switched on, whether chats find a key, and the models that may be used; any when empty.

    `priority` is the place the person gave it, the lowest first; None when they gave none.
    """

    enabled: bool = True
    configured: bool = False
    allowed_models: tuple[str, ...] = ()
    priority: int | None = None


# Nobody has configured it.
UNTOUCHED = ProviderState()


class ProviderStates:
    """Asks the key vault as the person, so that it decides itself what the person may see."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    async def by_provider(self) -> Mapping[str, ProviderState]:
        """Returns the states of the providers that somebody has configured, by id. Raises Unavailable."""
        try:
            answer = await self._stub.ListProviderStates(
                ListProviderStatesRequest(page_size=_PAGE_SIZE), **for_the_caller(_LIST_SECONDS)
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="key-vault") from None
        return {
            state.provider: ProviderState(
                state.enabled,
                state.configured,
                tuple(state.allowed_models),
                state.priority if state.HasField("priority") else None,
            )
            for state in answer.states
        }
