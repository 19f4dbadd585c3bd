"""The data keys on the wire, which encrypt what chats contain. Each method checks, calls and converts."""

from __future__ import annotations

from typing import Any

from realmultillm.keyvault.v1 import data_key_service_pb2 as data_pb2
from realmultillm.keyvault.v1 import data_key_service_pb2_grpc

from libs.rpc.identity import caller
from services.key_vault.encryption_validation import check_owned_keys, check_owner, check_wrapped_keys
from services.key_vault.transit import Transit


class DataKeyServicer(data_key_service_pb2_grpc.DataKeyServiceServicer):
    """Makes data keys for workers, and opens them for their owners. None is kept here."""

    def __init__(self, transit: Transit) -> None:
        self._transit = transit

    async def GenerateDataKey(self, request: data_pb2.GenerateDataKeyRequest, _context: Any) -> data_pb2.DataKey:
        check_owner(request.user_id)
        key, wrapped_key = await self._transit.data_key(request.user_id)
        return data_pb2.DataKey(key=key, wrapped_key=wrapped_key)

    async def UnwrapDataKeys(
        self, request: data_pb2.UnwrapDataKeysRequest, _context: Any
    ) -> data_pb2.UnwrapDataKeysResponse:
        check_wrapped_keys(request.wrapped_keys)
        keys = await self._transit.unwrap_data_keys(request.wrapped_keys, user_id=caller().user_id)
        return data_pb2.UnwrapDataKeysResponse(keys=[key or b"" for key in keys])

    async def RewrapDataKeys(
        self, request: data_pb2.RewrapDataKeysRequest, _context: Any
    ) -> data_pb2.RewrapDataKeysResponse:
        keys = [(key.user_id, key.wrapped_key) for key in request.keys]
        check_owned_keys(keys)
        rewrapped = await self._transit.rewrap_data_keys(keys)
        return data_pb2.RewrapDataKeysResponse(wrapped_keys=[key or "" for key in rewrapped])
