"""What Vault, a proxy before it or the network may do to a call, played by the transport below hvac."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import hvac
import pytest
import requests
import requests.adapters

from libs.errors import Unavailable
from libs.provider_keys import ProviderKey
from libs.redaction import Secret
from services.key_vault.transit import Transit
from services.key_vault.vault_login import AppRole
from services.key_vault.vault_session import VaultSession

PLAINTEXT = ProviderKey("canary-plaintext")
OWNER = {"user_id": "usr_alice", "provider": "openai"}
SEALED = {"data": {"ciphertext": "vault:v1:sealed"}}


class Network(requests.adapters.BaseAdapter):
    """Answers each request with the next of the given answers: a status and a body, or a failure to raise."""

    def __init__(self, *answers: tuple[int, Any] | Exception) -> None:
        super().__init__()
        self._answers = iter(answers)
        self.requests: list[requests.PreparedRequest] = []

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Plays the next answer."""
        self.requests.append(request)
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        response = requests.Response()
        response.status_code, body = answer
        response.request = request
        response.url = str(request.url)
        response.headers["Content-Type"] = "application/json" if isinstance(body, dict) else "text/html"
        response._content = json.dumps(body).encode() if isinstance(body, dict) else str(body).encode()
        return response

    def close(self) -> None:
        """Nothing is open."""


@contextmanager
def transit_over(network: Network) -> Iterator[Transit]:
    """Transit that has a token already."""
    with requests.Session() as session, ThreadPoolExecutor(1) as threads:
        session.mount("https://", network)
        client = hvac.Client("https://vault", token="canary-token", session=session)
        yield Transit(VaultSession(client, threads, AppRole("role", Secret("canary-secret-id"))))


class TestConnection:
    async def test_a_broken_connection_is_tried_once_more(self) -> None:
        network = Network(requests.ConnectionError("reset"), (200, SEALED))
        with transit_over(network) as transit:
            assert await transit.seal(PLAINTEXT, **OWNER) == "vault:v1:sealed"

    async def test_and_no_more_than_once(self) -> None:
        network = Network(requests.ConnectionError("reset"), requests.ConnectionError("reset"), (200, SEALED))
        with transit_over(network) as transit, pytest.raises(Unavailable, match="cannot be reached"):
            await transit.seal(PLAINTEXT, **OWNER)

    @pytest.mark.parametrize("failure", [requests.ConnectTimeout, requests.ReadTimeout])
    async def test_a_silent_vault_is_not_asked_again(self, failure: type[Exception]) -> None:
        network = Network(failure("canary"), (200, SEALED))
        with transit_over(network) as transit, pytest.raises(Unavailable, match="cannot be reached"):
            await transit.seal(PLAINTEXT, **OWNER)
        assert len(network.requests) == 1


class TestAnswers:
    @pytest.mark.parametrize(
        ("status", "body", "message"),
        [
            (503, {"errors": ["Vault is sealed"]}, "Vault is sealed"),
            (501, {"errors": ["not initialized"]}, "not initialized"),
            (500, {"errors": ["local node not active but active cluster node not found"]}, "cannot serve now"),
            (429, {"errors": ["rate limit"]}, "cannot serve now"),
            (502, "<html>canary</html>", "cannot serve now"),
            (200, "<html>canary</html>", "cannot serve now"),
            (404, {"errors": []}, "no usable transit key"),
            (400, {"errors": ["canary-plaintext is wrong"]}, "no usable transit key"),
        ],
    )
    async def test_what_is_no_help_is_explained(self, status: int, body: Any, message: str) -> None:
        with transit_over(Network((status, body))) as transit, pytest.raises(Unavailable, match=message) as caught:
            await transit.seal(PLAINTEXT, **OWNER)
        assert caught.value.retry_after
        assert "canary" not in repr(caught.value)
        context = caught.value.__context__
        assert context is None or "canary" not in f"{context!r}{vars(context)}", "what quotes the request"
