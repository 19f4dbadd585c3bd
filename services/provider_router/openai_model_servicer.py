"""The list of models in the words of OpenAI and of Anthropic at once, as their SDKs read it."""

from __future__ import annotations

import json
from typing import Any

from google.api.httpbody_pb2 import HttpBody
from realmultillm.openai.v1 import model_service_pb2, model_service_pb2_grpc

from services.provider_router.callable_models import CallableModels
from services.provider_router.model_lists import Model

# Both dialects want to know since when there is a model, and Anthropic's has the epoch where that is not known:
# https://platform.claude.com/docs/en/api/models/list
_UNKNOWN_SECONDS = 0
_UNKNOWN_TIME = "1970-01-01T00:00:00Z"


class OpenAIModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    """Tells the models that chats at /v1 may ask for."""

    def __init__(self, models: CallableModels) -> None:
        self._models = models

    async def GetModels(self, request: model_service_pb2.GetModelsRequest, _context: Any) -> HttpBody:
        models = [_row(model, named=not request.provider) for model in await self._models.all_of(request.provider)]
        return _json(
            {
                "object": "list",
                "data": models,
                "has_more": False,
                "first_id": models[0]["id"] if models else None,
                "last_id": models[-1]["id"] if models else None,
            }
        )

    async def GetModel(self, request: model_service_pb2.GetModelRequest, _context: Any) -> HttpBody:
        model = await self._models.find(request.provider, request.model)
        return _json(_row(model, named=not request.provider))


def _row(model: Model, *, named: bool) -> dict[str, Any]:
    """Makes the row of a model; `named` puts its provider into its id, as chats name it that say no provider."""
    return {
        "id": f"{model.provider}/{model.id}" if named else model.id,
        "object": "model",
        "created": _UNKNOWN_SECONDS,
        "owned_by": model.provider,
        "type": "model",
        "display_name": model.display_name,
        "created_at": _UNKNOWN_TIME,
        "lifecycle": "active",
        "max_input_tokens": model.context_length,
        "max_tokens": model.max_output_tokens,
    }


def _json(answer: dict[str, Any]) -> HttpBody:
    return HttpBody(content_type="application/json", data=json.dumps(answer, separators=(",", ":")).encode())
