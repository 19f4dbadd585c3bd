"""What a worker says of the models its provider offers."""

from __future__ import annotations

from typing import Any

import grpc
from realmultillm.provider.v1 import provider_service_pb2

from libs.providers import worker_service
from libs.rpc.delegation import for_the_caller
from libs.rpc.status import from_rpc_error
from services.provider_router.model_lists import Model

# The worker gives its provider ten, and may have to ask for the key before. It leaves time to answer from the
# catalogue.
_LIST_SECONDS = 12.0


class WorkerModels:
    """Asks the worker of one provider as the person, so that it uses their key."""

    def __init__(self, provider: str, stub: Any) -> None:
        self._provider = provider
        self._stub = stub

    async def page(self, page_size: int, page_token: str) -> tuple[list[Model], str]:
        """Returns a page, which may be longer than asked for, and the token of the next. Raises PlatformError."""
        request = provider_service_pb2.ListModelsRequest(page_size=page_size, page_token=page_token)
        try:
            answer = await self._stub.ListModels(request, **for_the_caller(_LIST_SECONDS))
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service=worker_service(self._provider)) from None
        return [self._model(model) for model in answer.models], answer.next_page_token

    def _model(self, model: provider_service_pb2.Model) -> Model:
        return Model(
            id=model.id,
            provider=self._provider,
            display_name=model.display_name or model.id,
            context_length=model.context_length if model.HasField("context_length") else None,
            max_output_tokens=model.max_output_tokens if model.HasField("max_output_tokens") else None,
        )
