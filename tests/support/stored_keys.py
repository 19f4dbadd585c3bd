"""Keys of OpenAI in the table of the key vault, many at a time, as the service would have stored them."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import hvac
import orjson
import psycopg

from libs.database import libpq_url
from libs.redaction import Secret

# OpenBao refuses a request with more texts in it than these are.
_SEALED_AT_ONCE = 200
_COLUMNS = (
    "user_id, provider, ciphertext, key_hint, model, last_test_success, last_test_latency, last_test_message, "
    "last_test_reason, last_test_time"
)


def key_of(user_id: str) -> str:
    """The key that somebody stored in the tests."""
    return f"sk-sandbox-key-of-{user_id}"


def context_of(user_id: str) -> str:
    """What a key of somebody is bound to, as Vault takes it."""
    return _encoded(orjson.dumps([user_id, "openai"]))


def store_sealed(operator: hvac.Client, mount: str, database_url: Secret, user_ids: Sequence[str]) -> list[str]:
    """Puts a sealed key for each account into the table, and returns the ciphertexts."""
    ciphertexts: list[str] = []
    for begin in range(0, len(user_ids), _SEALED_AT_ONCE):
        items = [
            {"plaintext": _encoded(key_of(user_id).encode()), "context": context_of(user_id)}
            for user_id in user_ids[begin : begin + _SEALED_AT_ONCE]
        ]
        answer = operator.secrets.transit.encrypt_data("provider-keys", batch_input=items, mount_point=mount)
        ciphertexts += (result["ciphertext"] for result in answer["data"]["batch_results"])
    insert_rows(database_url, dict(zip(user_ids, ciphertexts, strict=True)))
    return ciphertexts


def insert_rows(database_url: Secret, ciphertexts: Mapping[str, str]) -> None:
    """Puts ciphertexts into the table, by account."""
    with (
        psycopg.connect(libpq_url(database_url)) as connection,
        connection.cursor().copy(f"COPY provider_configs ({_COLUMNS}) FROM STDIN") as copy,
    ):
        for user_id, ciphertext in ciphertexts.items():
            copy.write_row((user_id, "openai", ciphertext, "", "", True, 1, "", "", "2026-01-01 00:00:00+00"))


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
