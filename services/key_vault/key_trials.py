"""Tries keys with the providers, through their workers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import grpc
from realmultillm.provider.v1 import provider_service_pb2, provider_service_pb2_grpc

from libs.provider_keys import ProviderKey
from libs.providers import worker_service
from libs.rpc.channel import open_channel, within
from libs.rpc.status import from_rpc_error
from libs.rpc.tls import TlsIdentity
from services.key_vault.effective_configs import Route, switched_off
from services.key_vault.models import Trial

_TRIAL_SECONDS = 10.0


class KeyTrials:
    """Tries keys through the worker of each provider, by provider id. `now` is the clock that dates the trials."""

    def __init__(self, workers: Mapping[str, Any], now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._workers = workers
        self._now = now

    async def attempt(self, provider: str, key: ProviderKey, route: Route, model: str = "") -> Trial:
        """Tries a key, for a model if one is named. That it could not be tried is an answer as well."""
        if not route.enabled:
            return self.not_made(provider)
        if model and route.allowed_models and model not in route.allowed_models:
            message = (
                "The key was not tried: administrators do not allow this model; name one of those of the model list."
            )
            return self._failed(message, "MODEL_NOT_ALLOWED")
        worker = self._workers.get(provider)
        if worker is None:
            return self._failed(f"The key was not tried: no worker for {provider} is deployed.", "PROVIDER_UNAVAILABLE")
        request = provider_service_pb2.TestKeyRequest(api_key=key.reveal(), model=model, endpoint=route.endpoint)
        try:
            # A worker that is just being replaced is worth the wait.
            answer = await worker.TestKey(request, wait_for_ready=True, **within(_TRIAL_SECONDS))
        except grpc.aio.AioRpcError as error:
            failure = from_rpc_error(error, service=worker_service(provider))
            return self._failed(failure.message, failure.reason)
        return Trial(answer.success, answer.latency_ms, answer.message, answer.reason, self._now())

    def not_made(self, provider: str) -> Trial:
        """Returns what the trial of any key comes to while administrators have switched the provider off."""
        return self._failed(switched_off(provider), "PROVIDER_DISABLED")

    def _failed(self, message: str, reason: str) -> Trial:
        return Trial(False, 0, message, reason, self._now())


@asynccontextmanager
async def connect_key_trials(workers: Mapping[str, str], tls: TlsIdentity) -> AsyncIterator[KeyTrials]:
    """Opens a channel to each worker, given by provider id and address."""
    async with AsyncExitStack() as channels:
        stubs = {
            provider: provider_service_pb2_grpc.ProviderServiceStub(
                await channels.enter_async_context(open_channel(address, worker_service(provider), tls))
            )
            for provider, address in workers.items()
        }
        yield KeyTrials(stubs)
