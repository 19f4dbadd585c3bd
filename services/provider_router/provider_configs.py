"""What the key vault knows of the person who calls."""

from __future__ import annotations

from typing import Any

import grpc
from realmultillm.keyvault.v1.credential_service_pb2 import ListConfiguredProvidersRequest

from libs.rpc.status import from_rpc_error
from services.provider_router.delegation import for_the_caller

_LIST_SECONDS = 3.0
# More than there are providers: the answer comes in one page.
_PAGE_SIZE = 500


class ProviderConfigs:
    """Asks the key vault as the person, so that it decides itself what the person may see."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    async def configured(self) -> frozenset[str]:
        """Returns the ids of the providers the caller has stored a key for. Raises Unavailable."""
        try:
            answer = await self._stub.ListConfiguredProviders(
                ListConfiguredProvidersRequest(page_size=_PAGE_SIZE), **for_the_caller(_LIST_SECONDS)
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="key-vault") from None
        return frozenset(answer.providers)
