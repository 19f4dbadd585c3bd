"""The encryption keys on the wire: administrators see and rotate them. Each method checks, calls and converts."""

from __future__ import annotations

from typing import Any

from realmultillm.keyvault.v1 import encryption_key_service_pb2 as keys_pb2
from realmultillm.keyvault.v1 import encryption_key_service_pb2_grpc

from libs.pagination import rows_per_page
from libs.rpc.identity import caller
from services.key_vault.encryption_validation import check_purpose
from services.key_vault.models import KeyRotationRow
from services.key_vault.rotations import EncryptionKey, Rotations
from services.key_vault.transit import Purpose

_PURPOSES = tuple(sorted(Purpose))


class EncryptionKeyServicer(encryption_key_service_pb2_grpc.EncryptionKeyServiceServicer):
    """Shows administrators the encryption keys, and begins rotations."""

    def __init__(self, rotations: Rotations) -> None:
        self._rotations = rotations

    async def ListEncryptionKeys(
        self, request: keys_pb2.ListEncryptionKeysRequest, _context: Any
    ) -> keys_pb2.ListEncryptionKeysResponse:
        size = rows_per_page(request.page_size, request.page_token, tokens=_PURPOSES)
        behind = [purpose for purpose in _PURPOSES if purpose > request.page_token]
        return keys_pb2.ListEncryptionKeysResponse(
            keys=[_key(await self._rotations.look_at(purpose)) for purpose in behind[:size]],
            next_page_token=behind[size - 1] if len(behind) > size else "",
        )

    async def RotateEncryptionKey(
        self, request: keys_pb2.RotateEncryptionKeyRequest, _context: Any
    ) -> keys_pb2.RotateEncryptionKeyResponse:
        purpose = check_purpose(request.purpose)
        rotation = await self._rotations.begin(purpose, rewrap_only=request.rewrap_only, started_by=caller().user_id)
        return keys_pb2.RotateEncryptionKeyResponse(rotation=_rotation(rotation))


def _key(key: EncryptionKey) -> keys_pb2.EncryptionKey:
    return keys_pb2.EncryptionKey(
        purpose=key.purpose,
        latest_version=key.versions.latest,
        min_decryption_version=key.versions.oldest,
        sealed_count=key.sealed,
        outdated_count=key.outdated,
        rotation=_rotation(key.rotation) if key.rotation is not None else None,
    )


def _rotation(row: KeyRotationRow) -> keys_pb2.KeyRotation:
    return keys_pb2.KeyRotation(
        id=str(row.id),
        state=row.state,
        target_version=row.target_version,
        total_count=row.total,
        rewrapped_count=row.rewrapped,
        failed_count=row.failed,
        message=row.message,
        start_time=row.start_time,
        update_time=row.update_time,
        end_time=row.end_time,
    )
