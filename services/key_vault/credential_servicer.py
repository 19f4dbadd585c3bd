"""What workers and the router read, on the wire. Each method checks, calls and converts."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

from realmultillm.keyvault.v1 import credential_service_pb2 as credential_pb2
from realmultillm.keyvault.v1 import credential_service_pb2_grpc

from libs.errors import Unavailable
from libs.pagination import rows_per_page
from libs.rpc.identity import caller, current_call
from services.key_vault.credential_changes import Alive, Change, CredentialChanges, PersonChanged, Synchronized
from services.key_vault.credentials import Credential, Credentials
from services.key_vault.repository import State
from services.key_vault.validation import check_own_provider, check_user_id

# Of one provider, in each replica: each process of its worker needs one.
_MOST_WATCHERS = 1_000


class CredentialServicer(credential_service_pb2_grpc.CredentialServiceServicer):
    """Opens stored keys for the workers, each its own provider's, and tells the router what people may use."""

    def __init__(self, credentials: Credentials, changes: CredentialChanges, providers: Collection[str]) -> None:
        self._credentials = credentials
        self._changes = changes
        self._providers = providers
        self._watchers: Counter[str] = Counter()

    async def GetCredential(
        self, request: credential_pb2.GetCredentialRequest, _context: Any
    ) -> credential_pb2.Credential:
        check_own_provider(request.provider, current_call().peer)
        check_user_id(request.user_id)
        reader = current_call().peer
        return _credential(await self._credentials.open(request.user_id, request.provider, reader=reader))

    async def WatchCredentials(
        self, request: credential_pb2.WatchCredentialsRequest, _context: Any
    ) -> AsyncIterator[credential_pb2.CredentialEvent]:
        check_own_provider(request.provider, current_call().peer)
        with self._place_to_watch(request.provider):
            async with aclosing(self._changes.follow(request.provider)) as changes:
                async for change in changes:
                    yield _event(change)

    @contextmanager
    def _place_to_watch(self, provider: str) -> Iterator[None]:
        if self._watchers[provider] >= _MOST_WATCHERS:
            raise Unavailable(
                f"As many follow the credentials of {provider} as may; close streams that nobody reads.",
                reason="SERVICE_OVERLOADED",
                retry_after=5,
            )
        self._watchers[provider] += 1
        try:
            yield
        finally:
            self._watchers[provider] -= 1

    async def ListProviderStates(
        self, request: credential_pb2.ListProviderStatesRequest, _context: Any
    ) -> credential_pb2.ListProviderStatesResponse:
        size = rows_per_page(request.page_size, request.page_token, tokens=self._providers)
        states, more = await self._credentials.find_states(caller().user_id, after=request.page_token, size=size)
        return credential_pb2.ListProviderStatesResponse(
            states=map(_state, states), next_page_token=states[-1].provider if more else ""
        )


def _credential(credential: Credential) -> credential_pb2.Credential:
    return credential_pb2.Credential(
        api_key=credential.api_key.reveal(),
        model=credential.model,
        temperature=credential.temperature,
        max_tokens=credential.max_tokens,
        endpoint=credential.endpoint,
        request_timeout_ms=credential.request_timeout_ms,
        allowed_models=credential.allowed_models,
        platform_key=credential.platform_key,
        platform_model=credential.platform_model,
    )


def _event(change: Change) -> credential_pb2.CredentialEvent:
    if isinstance(change, Synchronized):
        return credential_pb2.CredentialEvent(synchronized=True)
    if isinstance(change, Alive):
        return credential_pb2.CredentialEvent(alive=True)
    if isinstance(change, PersonChanged):
        return credential_pb2.CredentialEvent(user_id=change.user_id)
    return credential_pb2.CredentialEvent(everyone=True)


def _state(state: State) -> credential_pb2.ProviderState:
    return credential_pb2.ProviderState(
        provider=state.provider,
        configured=state.configured,
        enabled=state.enabled,
        allowed_models=state.allowed_models,
        priority=state.priority,
    )
