"""A session with Vault or OpenBao: logs in, keeps the token, asks, and says in our words what went wrong.

hvac is blocking and its exceptions quote requests and answers, secrets included: it runs in threads of its own, and
what it raises ends here. Messages for the caller are written below and say what an operator does.

While Vault does not answer, one caller at a time finds out whether it is back, and the others are told soon: a
hundred calls that each wait for a silent Vault would keep everything else waiting too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import hvac
import hvac.exceptions
import requests
import requests.adapters
import structlog

from libs.background import beside
from libs.errors import Unavailable
from libs.rpc.identity import current_span
from libs.tracing import part_of
from services.key_vault.vault_login import Login
from services.key_vault.vault_metrics import VaultMetrics

log = structlog.get_logger()

# Vault answers in a few milliseconds; more threads would only queue there.
_THREADS = 8
# To connect and to wait for an answer, in seconds; twice both, when the call is repeated, is what a thread can be lost.
_TIMEOUTS = (1.0, 3.0)
# How long a caller waits for all of it, the wait for a thread and a login included. Less than the five seconds that a
# worker waits for a key, so that it is told why there is none.
CALL_SECONDS = 4.0
# How long a token that cannot be renewed waits for the next try; so soon a Vault that is back is noticed at the latest.
_RENEWAL_RETRY_SECONDS = 0.5
# And one that Vault does not want to renew. Each try logs in, and each login costs Vault a lease.
_REFUSED_RENEWAL_RETRY_SECONDS = 30.0
# How long a refused login is not tried again: Vault shuts out who fails too often.
_REFUSED_LOGIN_SECONDS = 5.0

_GIVE_BACK_SECONDS = 1.0
# How long a caller waits for what somebody else is finding out.
_PATIENCE_SECONDS = 0.5

# Something to ask Vault with a client, which has a token.
_Operation = Callable[[hvac.Client], Any]


class VaultSession:
    """Asks Vault. Logs in when first used, and again whenever Vault has forgotten the token."""

    def __init__(self, client: hvac.Client, threads: ThreadPoolExecutor, login: Login) -> None:
        self.metrics = VaultMetrics()
        self._client = client
        self._threads = threads
        self._free_threads = asyncio.Semaphore(_THREADS)
        self._login = login
        self._logging_in = asyncio.Lock()
        self._no_login_before = float("-inf")
        # What those hear who do not ask; empty while Vault answers.
        self._outage = ""
        self._outage_begun = asyncio.Event()
        # Who finds out whether Vault is back.
        self._looker: asyncio.Task[Any] | None = None
        self._found_out = asyncio.Event()

    async def get(self, path: str, *, operation: str = "other") -> dict[str, Any]:
        """Returns what Vault answers to a GET. Raises RequestRefused, or Unavailable within four seconds.

        `operation` is what it is counted as.
        """
        return await self._ask(lambda client: client.adapter.get(f"/v1/{path}"), operation)

    async def post(
        self, path: str, body: dict[str, Any], *, operation: str = "other", repeatable: bool = True
    ) -> dict[str, Any]:
        """Returns what Vault answers to a POST, an empty dictionary where it says no more than yes.

        One that is `repeatable` without harm is made twice when the connection breaks, as one that was kept alive may.
        Raises RequestRefused, or Unavailable within four seconds. `operation` is what it is counted as.
        """
        return await self._ask(
            lambda client: client.adapter.post(f"/v1/{path}", json=body), operation, repeatable=repeatable
        )

    async def ping(self) -> None:
        """Asks Vault whether it is unsealed and accepts the service's token. Raises Unavailable."""
        await self._ask(_look_up_token, "look_up_token")

    async def _ask(self, operation: _Operation, name: str, *, repeatable: bool = True) -> dict[str, Any]:
        with self.metrics.counting(name), part_of(current_span(), f"vault {name}", {}):
            return await self._answer_of(operation, repeatable)

    async def _answer_of(self, operation: _Operation, repeatable: bool) -> dict[str, Any]:
        problem: Exception
        await self._wait_for_looker()
        with self._one_looking():
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    answer = await self._with_token(operation, repeatable)
            except _ANSWERS as error:
                self._tell("")
                denied = isinstance(error, hvac.exceptions.Forbidden)
                problem = cannot(_explanation(error)) if denied else RequestRefused(error)
            except _Away:
                problem = Unavailable(self._outage or _CANNOT, retry_after=_RETRY_SECONDS)
            except _FAILURES as error:
                problem = cannot(_explanation(error))
                self._tell(str(problem))
            else:
                self._tell("")
                return answer
        # Out here, so that what quotes the request is not carried along as the context of our error; and not kept in
        # this frame, which the error's traceback holds: in such a circle a key would outlive its use.
        try:
            raise problem
        finally:
            del problem

    async def keep_token(self) -> None:
        """Renews the token when two thirds of its lease are over, until cancelled. Notices when Vault is back."""
        last_problem = ""
        while True:
            try:
                answer = await self._ask(_renew_token, "renew_token")
            except (Unavailable, RequestRefused) as error:
                if str(error) != last_problem:
                    log.warning("vault token not renewed; trying again", problem=str(error))
                last_problem = str(error)
                await asyncio.sleep(_RENEWAL_RETRY_SECONDS if self._outage else _REFUSED_RENEWAL_RETRY_SECONDS)
            else:
                last_problem = ""
                # A lease that shrinks towards its end is renewed once a second at most; then a new login follows.
                await self._until_renewal(max(1.0, answer["auth"]["lease_duration"] * 2 / 3))

    async def give_back_token(self) -> None:
        """Has Vault forget the token, which nobody needs any more, if that takes no time."""
        if self._client.token and not self._outage:
            with suppress(Unavailable, RequestRefused, TimeoutError):
                async with asyncio.timeout(_GIVE_BACK_SECONDS):
                    await self._ask(_revoke_token, "revoke_token")

    async def _until_renewal(self, seconds: float) -> None:
        """Waits so long, or until Vault turns out to be away, when the renewal also looks whether it is back."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._outage_begun.wait()

    @contextmanager
    def _one_looking(self) -> Iterator[None]:
        """Lets one caller at a time find out, while Vault is away, whether it is back."""
        if self._outage and self._looker is None:
            self._looker = asyncio.current_task()
            self._found_out.clear()
        try:
            yield
        finally:
            if self._looker is asyncio.current_task():
                self._looker = None
                self._found_out.set()

    async def _wait_for_looker(self) -> None:
        """Waits a moment for who finds out whether Vault is back: most often it is, or nobody would have to."""
        if self._looker is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await self._found_out.wait()

    def _tell(self, outage: str) -> None:
        self._outage = outage
        if outage:
            self._outage_begun.set()
        else:
            self._outage_begun.clear()

    def _refuse_while_away(self) -> None:
        if self._outage and self._looker is not asyncio.current_task():
            raise _Away

    async def _with_token(self, operation: _Operation, repeatable: bool) -> dict[str, Any]:
        """Runs an operation with a token, a new one when Vault does not accept the present one."""
        token = self._client.token
        if token:
            try:
                return await self._run(operation, repeatable)
            except hvac.exceptions.Forbidden:
                pass
        await self._replace_token(token)
        return await self._run(operation, repeatable)

    async def _replace_token(self, refused: str) -> None:
        """Logs in, unless another call has done so since. Raises Forbidden when the token is not to blame.

        Without that question a policy that lacks a right would cost a login, and Vault a lease, at every call.
        """
        async with self._logging_in:
            if self._client.token != refused:
                return
            if refused and await self._is_accepted():
                raise hvac.exceptions.Forbidden
            if time.monotonic() < self._no_login_before:
                raise _LoginRefused
            try:
                answer = await self._run(self._log_in, repeatable=True)
            except _LoginRefused:
                self._no_login_before = time.monotonic() + _REFUSED_LOGIN_SECONDS
                raise
            self._client.token = answer["auth"]["client_token"]
            log.info("logged in to vault", lease_seconds=answer["auth"]["lease_duration"])

    def _log_in(self, client: hvac.Client) -> Any:
        try:
            credentials = self._login.credentials()
        except (OSError, ValueError):
            raise _CredentialsUnreadable from None
        try:
            return _with_lease(
                client.adapter.login(f"/v1/auth/{self._login.mount}/login", use_token=False, json=credentials)
            )
        except (hvac.exceptions.InvalidRequest, hvac.exceptions.InvalidPath, hvac.exceptions.Forbidden):
            raise _LoginRefused from None

    async def _is_accepted(self) -> bool:
        try:
            await self._run(_look_up_token, repeatable=True)
        except hvac.exceptions.Forbidden:
            return False
        return True

    async def _run(self, operation: _Operation, repeatable: bool) -> dict[str, Any]:
        await self._free_threads.acquire()
        try:
            self._refuse_while_away()  # it may have begun since
            asked = self._submit(operation, repeatable)
        except BaseException:
            self._free_threads.release()
            raise
        # Not when the caller gives up: the thread is lost until it has its answer.
        asked.add_done_callback(self._free_thread_in(asyncio.get_running_loop()))
        try:
            return await asyncio.wrap_future(asked)
        finally:
            del asked  # it holds the error, whose traceback holds this frame

    def _submit(self, operation: _Operation, repeatable: bool) -> Future[dict[str, Any]]:
        try:
            return self._threads.submit(_answer, self._client, operation, repeatable)
        except RuntimeError:  # the system starts no more of them
            raise _NoThread from None

    def _free_thread_in(self, loop: asyncio.AbstractEventLoop) -> Callable[[Future[Any]], None]:
        def free(asked: Future[Any]) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(self._free_thread, asked)

        return free

    def _free_thread(self, asked: Future[Any]) -> None:
        # Before the next in line gets the thread, to be told instead of asking too.
        error = None if asked.cancelled() else asked.exception()
        if isinstance(error, _FAILURES) and not isinstance(error, _ANSWERS):
            self._tell(str(cannot(_explanation(error))))
        self._free_threads.release()


@asynccontextmanager
async def connect_vault(
    address: str, *, authority: Path, login: Login, namespace: str | None = None
) -> AsyncIterator[VaultSession]:
    """Speaks to the Vault at an https address whose certificate is of `authority`.

    Connects when first used, so that the service can start before Vault.
    """
    with requests.Session() as session:
        session.verify = str(authority)
        session.trust_env = False  # neither proxies nor other authorities from the environment
        session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=_THREADS))
        threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="vault")
        # An empty token, not None: hvac would look for one in the environment and the home folder.
        client = hvac.Client(
            address, token="", session=session, timeout=_TIMEOUTS, namespace=namespace, allow_redirects=False
        )
        vault = VaultSession(client, threads, login)
        try:
            async with beside({"vault token": vault.keep_token()}):
                yield vault
            await vault.give_back_token()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


class RequestRefused(Exception):
    """Vault finds the question wrong. Holds nothing of what it said but the results of a batch, if it was one."""

    def __init__(self, error: hvac.exceptions.VaultError) -> None:
        super().__init__("Vault refuses the question.")
        said = error.json if isinstance(error.json, dict) else {}
        data = said.get("data")
        self.no_key = isinstance(error, hvac.exceptions.InvalidPath) or _NO_KEY in (error.errors or ())
        self.results: list[dict[str, Any]] | None = data.get("batch_results") if isinstance(data, dict) else None


def cannot(explanation: str) -> Unavailable:
    """Says that nothing can be sealed or opened now, and why."""
    return Unavailable(f"{_CANNOT}: {explanation}", retry_after=_RETRY_SECONDS)


class _LoginRefused(Exception):
    """Vault does not know whoever logs in, or not as that."""


class _CredentialsUnreadable(Exception):
    """The file with the token of the service account cannot be read."""


class _NoThread(Exception):
    """The system starts no more threads for this process."""


class _Away(Exception):
    """Vault was away a moment ago, and somebody else finds out whether it is back."""


_CANNOT = "Keys cannot be stored or opened now"
_RETRY_SECONDS = 5
_NO_KEY = "encryption key not found"

# Of a Vault that is there.
_ANSWERS = (hvac.exceptions.InvalidRequest, hvac.exceptions.InvalidPath, hvac.exceptions.Forbidden)
_FAILURES = (
    hvac.exceptions.VaultError,
    requests.RequestException,
    TimeoutError,
    _LoginRefused,
    _CredentialsUnreadable,
    _NoThread,
)

_EXPLANATIONS: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((hvac.exceptions.VaultDown,), "Vault is sealed; an operator unseals it."),
    ((hvac.exceptions.VaultNotInitialized,), "Vault is not initialized; an operator sets it up."),
    (
        (_LoginRefused,),
        "Vault refuses the login of key-vault; an operator issues a new secret id, or mends the Kubernetes role.",
    ),
    (
        (_CredentialsUnreadable,),
        "The file KEY_VAULT_VAULT_KUBERNETES_TOKEN_PATH names cannot be read; an operator mends it.",
    ),
    ((_NoThread,), "key-vault cannot start threads; an operator raises its limit of processes."),
    ((hvac.exceptions.Forbidden,), "Vault denies key-vault a right it needs; an operator mends its policy."),
    ((requests.exceptions.SSLError,), "Vault's certificate is not trusted; an operator checks KEY_VAULT_VAULT_CA."),
    ((requests.RequestException, TimeoutError), "Vault cannot be reached; an operator checks that it runs."),
    # Among others 500 of a standby without an active node, 429, a redirect, and the answers of a proxy in between.
    ((hvac.exceptions.VaultError,), "Vault cannot serve now; an operator looks at its status and log."),
)


def _explanation(error: Exception) -> str:
    return next(text for kinds, text in _EXPLANATIONS if isinstance(error, kinds))


def _answer(client: hvac.Client, operation: _Operation, repeatable: bool) -> dict[str, Any]:
    try:
        answer = operation(client)
    except requests.ConnectTimeout:
        raise
    except requests.ConnectionError:
        if not repeatable:
            raise
        answer = operation(client)  # Vault had closed a connection that was kept alive
    if isinstance(answer, requests.Response) and answer.status_code == requests.codes.no_content:
        return {}
    if not isinstance(answer, dict):
        raise hvac.exceptions.UnexpectedError  # hvac hands on as it is what is not JSON
    return answer


def _look_up_token(client: hvac.Client) -> Any:
    return client.auth.token.lookup_self()


def _revoke_token(client: hvac.Client) -> Any:
    return client.auth.token.revoke_self()


def _renew_token(client: hvac.Client) -> Any:
    return _with_lease(client.auth.token.renew_self())


def _with_lease(answer: Any) -> Any:
    """Returns an answer that gives a token for a time. Raises UnexpectedError for any other, as of a proxy."""
    auth = answer.get("auth") if isinstance(answer, dict) else None
    if not isinstance(auth, dict) or not auth.get("client_token") or not isinstance(auth.get("lease_duration"), int):
        raise hvac.exceptions.UnexpectedError
    return answer
