"""Steers a running sandbox provider and reads what it received; made for tests."""

from types import TracebackType
from typing import Literal, Self

import httpx

from deploy.local.sandbox_provider.control_messages import Behaviour, RecordedRequest, RecordedRequests

_ANSWER_TIMEOUT_S = 5.0


class SandboxControl:
    """A client of the control endpoint; close it, or use it as an async context manager.

    Tests that run side by side each use a key of their own and name it in every call.
    """

    def __init__(self, base_url: str) -> None:
        self._http = httpx.AsyncClient(base_url=base_url, timeout=_ANSWER_TIMEOUT_S)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def behave(self, behaviour: Behaviour) -> None:
        """Adds a behaviour behind those already there; the first that matches a request wins."""
        body = behaviour.model_dump_json(by_alias=True, exclude_unset=True)
        await self._call("POST", "/_sandbox/behaviours", content=body)

    async def forget_behaviours(self, *, key: str | None = None) -> None:
        """Makes all days normal again, of one key or all; streams that are held go on."""
        await self._call("DELETE", "/_sandbox/behaviours", params=_filters(key))

    async def requests(self, *, key: str | None = None, after: int = 0) -> list[RecordedRequest]:
        """Lists the requests received, oldest first, past an id and of one key."""
        response = await self._call("GET", "/_sandbox/requests", params=_filters(key, after))
        return RecordedRequests.model_validate_json(response.content).requests

    async def wait_started(self, *, key: str | None = None, after: int = 0, timeout_ms: int = 5_000) -> RecordedRequest:
        """Waits for a request to arrive. Raises `TimeoutError`."""
        return await self._wait("started", _filters(key, after), timeout_ms)

    async def wait_closed(
        self,
        *,
        key: str | None = None,
        after: int = 0,
        request_id: int | None = None,
        timeout_ms: int = 5_000,
    ) -> RecordedRequest:
        """Waits for a request, any or the one named, to end in whatever way. Raises `TimeoutError`."""
        filters = _filters(key, after)
        if request_id is not None:
            filters["id"] = str(request_id)
        return await self._wait("closed", filters, timeout_ms)

    async def reset(self, *, key: str | None = None) -> None:
        """Forgets behaviours and requests, of one key or all."""
        await self._call("DELETE", "/_sandbox", params=_filters(key))

    async def _wait(
        self, until: Literal["started", "closed"], filters: dict[str, str], timeout_ms: int
    ) -> RecordedRequest:
        response = await self._call(
            "GET",
            "/_sandbox/requests/wait",
            params={**filters, "until": until, "timeoutMs": str(timeout_ms)},
            timeout_s=timeout_ms / 1000 + _ANSWER_TIMEOUT_S,
        )
        if response.status_code == httpx.codes.REQUEST_TIMEOUT:
            raise TimeoutError(response.json()["error"])
        return RecordedRequest.model_validate_json(response.content)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        content: str | None = None,
        timeout_s: float = _ANSWER_TIMEOUT_S,
    ) -> httpx.Response:
        response = await self._http.request(method, path, params=params, content=content, timeout=timeout_s)
        if response.status_code == httpx.codes.BAD_REQUEST:
            raise ValueError(response.json()["error"])
        if response.status_code != httpx.codes.REQUEST_TIMEOUT:
            response.raise_for_status()
        return response


def _filters(key: str | None, after: int = 0) -> dict[str, str]:
    filters = {"after": str(after)} if after else {}
    return filters if key is None else {**filters, "key": key}
