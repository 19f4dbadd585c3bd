"""The models a provider offers, asked of it with the key of the person who wants to know."""

from __future__ import annotations

import asyncio

from realmultillm.provider.v1 import provider_service_pb2 as provider_pb2

from libs.errors import InvalidRequest, ModelNotFound, ProviderError, ProviderRejectedRequest, Violation
from libs.rpc.identity import current_call
from libs.worker.adapter import NOT_UNDERSTOOD, Adapter
from libs.worker.credentials import CredentialSource
from libs.worker.failures import Failures
from libs.worker.upstream import Upstream

_LISTING_SECONDS = 10.0
# OpenRouter, which lists the models of everybody, needs a quarter of it.
MAX_LISTING_BYTES = 4 * 1024 * 1024


class Models:
    """Lists the models of one provider."""

    def __init__(self, adapter: Adapter, upstream: Upstream, credentials: CredentialSource) -> None:
        self._adapter = adapter
        self._upstream = upstream
        self._credentials = credentials

    async def page(self, user_id: str, page_size: int, page_token: str) -> tuple[list[provider_pb2.Model], str]:
        """Returns one page, without the models that are not allowed, and the token of the next.

        A size of 0 leaves it to the provider. Raises PlatformError when there is no key for the person, or the provider
        refuses it or cannot answer, and InvalidRequest when the provider does not take the token.
        """
        credential = await self._credentials.of(user_id)
        request = self._adapter.models_request(credential.api_key, page_size, page_token).at(credential.endpoint)
        left = current_call().deadline - asyncio.get_running_loop().time()
        failures = Failures(self._adapter.provider, self._adapter.display_name)
        try:
            body = await self._upstream.fetch(
                request, max(0.001, min(_LISTING_SECONDS, left)), max_bytes=MAX_LISTING_BYTES
            )
            models, next_token = self._adapter.read_models(body)
        except ProviderError as error:
            if page_token and isinstance(error, ProviderRejectedRequest | ModelNotFound):
                unknown = f"is none that {failures.display_name} takes; begin again without one."
                raise InvalidRequest([Violation("pageToken", unknown)]) from None
            worded = failures.beside_chats(error)
            raise (failures.of_platform_key(worded) if credential.platform_key else worded) from None
        except NOT_UNDERSTOOD:
            raise failures.not_understood() from None
        allowed = frozenset(credential.allowed_models)
        return [model for model in models if not allowed or model.id in allowed], next_token
