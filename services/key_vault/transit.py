"""Seals and opens secrets with the transit engine of Vault or OpenBao; nothing else knows that it is there.

A key never leaves Vault: the plaintext goes in and the ciphertext comes out, and back. The encryption key is derived
from a context that names the user and the provider, so that a row copied to another does not open. The context alone
does that; associated data would do it twice, and OpenBao cannot rewrap what was sealed with it (tried, 2.7).

hvac is blocking and its exceptions quote requests, secrets included: it runs in threads of its own, and what it
raises ends here. Messages for the caller are written below and say what an operator does.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import hvac
import hvac.exceptions
import orjson
import requests
import requests.adapters
import structlog

from libs.background import beside
from libs.errors import FailedPrecondition, Unavailable
from libs.redaction import Secret

log = structlog.get_logger()

_KEY = "provider-keys"

# Vault answers in a few milliseconds; more threads would only queue there.
_THREADS = 8
# To connect and to wait for an answer, in seconds; twice both, when the call is repeated, is what a thread can be lost.
_TIMEOUTS = (1.0, 3.0)
# How long a caller waits for all of it, the wait for a thread included.
_CALL_SECONDS = 6.0
_RENEWAL_RETRY_SECONDS = 2.0

_Operation = Callable[[], Any]


class Transit:
    """Seals and opens secrets. Logs in when first used, and again whenever Vault has forgotten the token."""

    def __init__(self, client: hvac.Client, threads: ThreadPoolExecutor, *, role_id: str, secret_id: Secret) -> None:
        self._client = client
        self._threads = threads
        self._role_id = role_id
        self._secret_id = secret_id
        self._logging_in = asyncio.Lock()

    async def seal(self, plaintext: Secret, *, user_id: str, provider: str) -> str:
        """Returns the ciphertext of a secret that belongs to a user and a provider. Raises Unavailable."""
        operation = partial(
            self._client.secrets.transit.encrypt_data,
            _KEY,
            plaintext=base64.b64encode(plaintext.reveal().encode()).decode(),
            context=_context(user_id, provider),
        )
        with _explaining():
            answer = await self._call(operation)
        return str(answer["data"]["ciphertext"])

    async def open(self, ciphertext: str, *, user_id: str, provider: str) -> Secret:
        """Returns the secret that was sealed for the same user and provider.

        Raises FailedPrecondition when it was sealed for another or has been altered, and Unavailable.
        """
        operation = partial(
            self._client.secrets.transit.decrypt_data, _KEY, ciphertext, context=_context(user_id, provider)
        )
        with _explaining():
            try:
                answer = await self._call(operation)
            except hvac.exceptions.InvalidRequest as error:
                if _names_no_key(error):
                    raise
                log.error("stored key cannot be opened", user=user_id, provider=provider)
                raise FailedPrecondition(
                    f"The stored key for {provider} cannot be opened; "
                    f"store it again with POST /api/provider-config/{provider}.",
                    reason="PROVIDER_NOT_CONFIGURED",
                    provider=provider,
                ) from None
        return Secret(base64.b64decode(answer["data"]["plaintext"]).decode())

    async def ping(self) -> None:
        """Asks Vault whether it is unsealed and accepts the service's token. Raises Unavailable."""
        with _explaining():
            await self._call(self._client.auth.token.lookup_self)

    async def keep_token(self) -> None:
        """Renews the token when two thirds of its lease are over, until cancelled."""
        last_problem = ""
        while True:
            try:
                with _explaining():
                    answer = await self._call(self._client.auth.token.renew_self)
            except Unavailable as error:
                if error.message != last_problem:
                    log.warning("vault token not renewed; trying again", problem=error.message)
                last_problem = error.message
                await asyncio.sleep(_RENEWAL_RETRY_SECONDS)
            else:
                last_problem = ""
                # A lease that shrinks towards its end is renewed once a second at most; then a new login follows.
                await asyncio.sleep(max(1.0, answer["auth"]["lease_duration"] * 2 / 3))

    async def _call(self, operation: _Operation) -> dict[str, Any]:
        """Runs an operation with a token, a new one when Vault does not accept the present one."""
        token = self._client.token
        if token:
            try:
                return await self._run(operation)
            except hvac.exceptions.Forbidden:
                pass
        await self._replace_token(token)
        return await self._run(operation)

    async def _replace_token(self, refused: str) -> None:
        """Logs in, unless another call has done so since. Raises Forbidden when the token is not to blame.

        Without that question a policy that lacks a right would cost a login, and Vault a lease, at every call.
        """
        async with self._logging_in:
            if self._client.token != refused:
                return
            if refused and await self._is_accepted():
                raise hvac.exceptions.Forbidden
            login = partial(self._client.auth.approle.login, self._role_id, self._secret_id.reveal(), use_token=False)
            try:
                answer = await self._run(login)
            except hvac.exceptions.InvalidRequest:
                raise _LoginRefused from None
            self._client.token = answer["auth"]["client_token"]
            log.info("logged in to vault", lease_seconds=answer["auth"]["lease_duration"])

    async def _is_accepted(self) -> bool:
        try:
            await self._run(self._client.auth.token.lookup_self)
        except hvac.exceptions.Forbidden:
            return False
        return True

    async def _run(self, operation: _Operation) -> dict[str, Any]:
        async with asyncio.timeout(_CALL_SECONDS):
            return await asyncio.get_running_loop().run_in_executor(self._threads, _answer, operation)


@asynccontextmanager
async def connect_transit(address: str, *, authority: Path, role_id: str, secret_id: Secret) -> AsyncIterator[Transit]:
    """Speaks to the Vault at an https address whose certificate is of `authority`, with the rights of an AppRole.

    Connects when first used, so that the service can start before Vault.
    """
    with requests.Session() as session:
        session.verify = str(authority)
        session.trust_env = False  # neither proxies nor other authorities from the environment
        session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=_THREADS))
        threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="vault")
        # An empty token, not None: hvac would look for one in the environment and the home folder.
        client = hvac.Client(address, token="", session=session, timeout=_TIMEOUTS)
        transit = Transit(client, threads, role_id=role_id, secret_id=secret_id)
        try:
            async with beside({"vault token": transit.keep_token()}):
                yield transit
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


class _LoginRefused(Exception):
    """Vault does not know the role id or the secret id."""


def _answer(operation: _Operation) -> dict[str, Any]:
    """Runs an operation, which may be repeated without harm, and once more when the connection breaks."""
    try:
        answer = operation()
    except requests.ConnectTimeout:
        raise
    except requests.ConnectionError:
        answer = operation()  # Vault had closed a connection that was kept alive
    if not isinstance(answer, dict):
        raise hvac.exceptions.UnexpectedError  # hvac hands on as it is what is not JSON
    return answer


def _context(user_id: str, provider: str) -> str:
    # JSON keeps the two apart whatever characters they hold.
    return base64.b64encode(orjson.dumps([user_id, provider])).decode()


def _names_no_key(error: hvac.exceptions.InvalidRequest) -> bool:
    return "encryption key not found" in (error.errors or ())


_EXPLANATIONS: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((hvac.exceptions.VaultDown,), "Vault is sealed; an operator unseals it."),
    ((hvac.exceptions.VaultNotInitialized,), "Vault is not initialized; an operator sets it up."),
    ((_LoginRefused,), "Vault refuses the login of key-vault; an operator issues a new secret id."),
    ((hvac.exceptions.Forbidden,), "Vault denies key-vault a right it needs; an operator mends its policy."),
    (
        (hvac.exceptions.InvalidPath, hvac.exceptions.InvalidRequest),
        f"Vault has no usable transit key {_KEY}; an operator creates it.",
    ),
    ((requests.exceptions.SSLError,), "Vault's certificate is not trusted; an operator checks KEY_VAULT_VAULT_CA."),
    ((requests.RequestException, TimeoutError), "Vault cannot be reached; an operator checks that it runs."),
    # Among others 500 of a standby without an active node, 429, and the answers of a proxy in between.
    ((hvac.exceptions.VaultError,), "Vault cannot serve now; an operator looks at its status and log."),
)


@contextmanager
def _explaining() -> Iterator[None]:
    """Turns whatever Vault, hvac and requests raise into Unavailable with a message of ours."""
    try:
        yield
    except (hvac.exceptions.VaultError, requests.RequestException, TimeoutError, _LoginRefused) as error:
        explanation = next(text for kinds, text in _EXPLANATIONS if isinstance(error, kinds))
        raise Unavailable(f"Keys cannot be stored or opened now: {explanation}", retry_after=5) from None
