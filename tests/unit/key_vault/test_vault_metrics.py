"""What is told of Vault: what it was asked for, how long it took, and what it did not do."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from libs.errors import Unavailable
from libs.provider_keys import ProviderKey
from services.key_vault.transit import Transit
from services.key_vault.vault_session import RequestRefused
from tests.unit.key_vault.test_transit_failures import Network
from tests.unit.key_vault.test_vault_session import DENIED, FINE, SEALED, session_over

SEALED_KEY = (200, {"data": {"ciphertext": "vault:v1:canary"}})
WRONG = (400, {"errors": ["cipher: message authentication failed"]})


async def test_requests_are_told_by_what_they_ask_for() -> None:
    registry = CollectorRegistry()

    def told(name: str, operation: str) -> float | None:
        return registry.get_sample_value(f"realmultillm_vault_{name}", {"operation": operation})

    # A denied right is looked into: the token may have gone.
    with session_over(Network(SEALED_KEY, WRONG, FINE, DENIED, FINE, SEALED)) as session:
        transit = Transit(session, "a/mount/of/their/own")
        registry.register(transit.metrics)
        await transit.seal(ProviderKey("sk-canary"), user_id="usr_canary", provider="openai")
        with pytest.raises(RequestRefused):
            await session.post("transit/decrypt/provider-keys", {}, operation="decrypt")
        await transit.ping()
        for _ in range(2):
            with pytest.raises(Unavailable):
                await transit.data_key("usr_canary")
    assert (told("request_seconds_count", "encrypt"), told("failures_total", "encrypt")) == (1, 0)
    # What Vault finds wrong it has answered.
    assert (told("request_seconds_count", "decrypt"), told("failures_total", "decrypt")) == (1, 0)
    assert told("request_seconds_count", "look_up_token") == 1
    assert (told("request_seconds_count", "datakey"), told("failures_total", "datakey")) == (2, 2)
    labels = {label for family in registry.collect() for sample in family.samples for label in sample.labels.values()}
    assert not {label for label in labels if "canary" in label or "mount" in label}
