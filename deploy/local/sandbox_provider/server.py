"""The HTTP server: providers' APIs under their mounts, its own control endpoint under `/_sandbox`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import orjson
from aiohttp import web
from pydantic import ValidationError

from deploy.local.sandbox_provider.answering import answer
from deploy.local.sandbox_provider.control_messages import Behaviour, RecordedRequests
from deploy.local.sandbox_provider.delivery import Delivery, until_connection_lost
from deploy.local.sandbox_provider.dialects import DIALECTS
from deploy.local.sandbox_provider.dialects.dialect import Call, Dialect, Refusal, Reply
from deploy.local.sandbox_provider.recording import Exchange, Recorder
from deploy.local.sandbox_provider.rule_book import RuleBook

_LARGEST_BODY = 64 * 1024 * 1024
_SHUTDOWN_S = 0.05
"""How long requests in progress may go on when the server stops; aiohttp takes 0 for no limit at all."""
_DEFAULT_WAIT_MS = 5_000


@asynccontextmanager
async def running(*, host: str = "127.0.0.1", port: int = 0, chunk_delay_ms: int = 0) -> AsyncIterator[str]:
    """Serves on an address of this machine while the block runs; yields the base URL. Port 0 is a free one."""
    app = web.Application(client_max_size=_LARGEST_BODY)
    Sandbox(chunk_delay_ms).add_routes(app.router)
    # Handler cancellation is how a client that hangs up is noticed at once, in every phase of an answer.
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=1024).start()
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class Sandbox:
    """All the providers, with the behaviours asked of them and the record of what they received."""

    def __init__(self, chunk_delay_ms: int) -> None:
        self._chunk_delay_ms = chunk_delay_ms
        self._rules = RuleBook()
        self._recorder = Recorder()

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Adds every dialect and the control endpoint."""
        for dialect in DIALECTS:
            router.add_route("*", f"{dialect.mount}/{{path:.*}}", self._provider(dialect))
        router.add_get("/_sandbox/health", self._health)
        router.add_get("/_sandbox/requests", self._list_requests)
        router.add_get("/_sandbox/requests/wait", self._wait_for_request)
        router.add_post("/_sandbox/behaviours", self._add_behaviour)
        router.add_delete("/_sandbox/behaviours", self._clear_behaviours)
        router.add_delete("/_sandbox", self._reset)

    def _provider(self, dialect: Dialect) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def serve(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            path = request.match_info["path"]
            call = Call(request.method, path, request.headers, body, _parsed(body), request.query)
            key = dialect.key(request.headers)
            model = dialect.model(call.path, call.payload)
            exchange = self._recorder.start(
                method=request.method,
                path=request.path,
                query=request.query_string,
                headers=request.headers,
                body=body,
                key=key,
                model=model,
            )
            behaviour = self._rules.pick(key, model, request.path)
            delivery = Delivery(request, exchange, self._recorder, self._rules, behaviour, self._chunk_delay_ms)
            try:
                response = await _answer(dialect, call, key, behaviour, delivery)
            except ConnectionError:  # a write came upon the closed socket before the cancellation did
                self._recorder.end(exchange, "client_closed")
                await until_connection_lost()
            except asyncio.CancelledError:
                self._recorder.end(exchange, "client_closed")
                raise
            self._recorder.end(exchange, "completed")
            return response

        return serve

    async def _health(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _list_requests(self, request: web.Request) -> web.Response:
        selected = self._recorder.select(request.query.get("key"), _number(request, "after", 0))
        found = RecordedRequests(requests=[exchange.recorded() for exchange in selected])
        return _json(found.model_dump_json(by_alias=True))

    async def _wait_for_request(self, request: web.Request) -> web.Response:
        """Answers with the first request that has started, or ended, as soon as there is one; else 408."""
        until = _until(request)
        wanted = _number(request, "id", 0)

        def reached(exchange: Exchange) -> bool:
            return wanted in (0, exchange.id) and (until == "started" or exchange.ended is not None)

        timeout_ms = _number(request, "timeoutMs", _DEFAULT_WAIT_MS)
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                exchange = await self._recorder.first(reached, request.query.get("key"), _number(request, "after", 0))
        except TimeoutError:
            raise _problem(web.HTTPRequestTimeout, f"no such request has {until} within {timeout_ms} ms") from None
        return _json(exchange.recorded().model_dump_json(by_alias=True))

    async def _add_behaviour(self, request: web.Request) -> web.Response:
        try:
            self._rules.add(Behaviour.model_validate_json(await request.read()))
        except ValidationError as error:
            found = "; ".join(
                f"{'.'.join(map(str, problem['loc'])) or 'body'}: {problem['msg']}" for problem in error.errors()
            )
            raise _problem(web.HTTPBadRequest, found) from None
        return web.Response(status=204)

    async def _clear_behaviours(self, request: web.Request) -> web.Response:
        self._rules.clear(request.query.get("key"))
        return web.Response(status=204)

    async def _reset(self, request: web.Request) -> web.Response:
        key = request.query.get("key")
        self._rules.clear(key)
        self._recorder.clear(key)
        return web.Response(status=204)


async def _answer(
    dialect: Dialect, call: Call, key: str | None, behaviour: Behaviour, delivery: Delivery
) -> web.StreamResponse:
    if behaviour.delay_ms:
        await asyncio.sleep(behaviour.delay_ms / 1000)
    if behaviour.cut_before_headers:
        await delivery.cut()
    if behaviour.silent:
        await until_connection_lost()
    if (canned := _canned(dialect, behaviour)) is not None:
        return await delivery.whole(canned)
    try:
        received = dialect.receive(call, key)
        if isinstance(received, Reply):
            return await delivery.whole(received)
        answered = answer(received.question, behaviour)
        if not received.streamed:
            return await delivery.whole(received.whole(answered, behaviour))
        transcript = received.stream(answered, behaviour)
    except Refusal as refusal:
        return await delivery.whole(refusal.reply)
    return await delivery.stream(transcript, dialect.stream_failure())


def _canned(dialect: Dialect, behaviour: Behaviour) -> Reply | None:
    """Makes the answer a behaviour prescribes whatever the request; None where it prescribes none."""
    status = behaviour.status or 200
    if isinstance(behaviour.body, str):
        return Reply(status, behaviour.body.encode(), {"content-type": "text/plain; charset=utf-8"})
    if behaviour.body is not None:
        return Reply(status, orjson.dumps(behaviour.body), {"content-type": "application/json"})
    if behaviour.error_in_body:
        failure = dialect.failure(500)
        return Reply(200, failure.body, failure.headers)
    return None if behaviour.status is None else dialect.failure(status)


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        return None


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isdecimal():
        raise _problem(web.HTTPBadRequest, f"{name}: not a whole number")
    return int(text)


def _until(request: web.Request) -> Literal["started", "closed"]:
    match request.query.get("until", "started"):
        case "started":
            return "started"
        case "closed":
            return "closed"
        case _:
            raise _problem(web.HTTPBadRequest, "until: neither started nor closed")


def _problem(kind: type[web.HTTPError], message: str) -> web.HTTPError:
    return kind(text=orjson.dumps({"error": message}).decode(), content_type="application/json")


def _json(text: str) -> web.Response:
    return web.Response(text=text, content_type="application/json")
