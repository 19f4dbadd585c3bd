"""Every PlatformError crosses a real server and channel and is the same on the other side."""

import ast
import inspect
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from realmultillm.errors.v1.error_reason_pb2 import ErrorReason

from deploy.envoy.local_replies import LOCAL_REPLIES
from libs import errors
from libs.errors import InvalidRequest, PlatformError, ProviderError, Unavailable, Violation
from libs.rpc.access_policy import open_to
from libs.rpc.channel import open_channel
from libs.rpc.status import CODES, from_rpc_error, to_status
from tests.support.rpc import Identities, details, error_info, running

METHOD = "/test.v1.Failing/Fail"
ROOT = Path(__file__).parents[2]


def every_error() -> list[type[PlatformError]]:
    """All errors a service can raise: the leaves of the tree, as ProviderError and PlatformError are only its nodes."""
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, PlatformError)]
    return [kind for kind in classes if not any(kind in other.__bases__ for other in classes)]


def example(kind: type[PlatformError], retry_after: float | None = None) -> PlatformError:
    message = "Tell what to do next: «größer» als 5 → weniger."
    if issubclass(kind, InvalidRequest):
        return kind([Violation("messages[0].role", "must be one of a, b."), Violation("größe", "must be «5».")])
    if issubclass(kind, ProviderError):
        return kind(message, provider="openai", retry_after=retry_after)
    return kind(message, reason="NOT_FOUND", retry_after=retry_after, requestId="4711", model="gpt-ü")


class Failing:
    """A service of one method, which raises what the test gives it."""

    def __init__(self) -> None:
        self.error: BaseException = RuntimeError("nothing to raise")
        self.call: Any = None

    def register(self, server: grpc.aio.Server) -> None:
        async def fail(request: bytes, context: Any) -> bytes:
            raise self.error

        handlers = {"Fail": grpc.unary_unary_rpc_method_handler(fail)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.v1.Failing", handlers),))

    async def answer_to(self, error: BaseException) -> grpc.aio.AioRpcError:
        self.error = error
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(b"", timeout=10)
        return caught.value


@pytest.fixture(scope="module")
async def failing(identity: Identities) -> AsyncIterator[Failing]:
    async with serving_failing(identity) as failing:
        yield failing


@asynccontextmanager
async def serving_failing(identity: Identities) -> AsyncIterator[Failing]:
    failing = Failing()
    policy = {METHOD: open_to({"envoy"})}
    async with (
        running(identity("analytics"), failing.register, policy=policy) as address,
        open_channel(address, "analytics", identity("envoy")) as channel,
    ):
        failing.call = channel.unary_unary(METHOD)
        yield failing


class TestRoundTrip:
    @pytest.mark.parametrize("retry_after", [None, 0.25, 7.0])
    @pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
    async def test_comes_back_as_it_was_raised(
        self, failing: Failing, kind: type[PlatformError], retry_after: float | None
    ) -> None:
        raised = example(kind, retry_after)
        found = from_rpc_error(await failing.answer_to(raised), service="analytics")
        assert type(found) is kind
        assert vars(found) == vars(raised)

    @pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
    async def test_the_own_reason_of_each_kind_comes_back(self, failing: Failing, kind: type[PlatformError]) -> None:
        raised = example(kind)
        raised.reason = kind.default_reason
        assert from_rpc_error(await failing.answer_to(raised), service="analytics").reason == kind.default_reason

    async def test_metadata_may_have_any_name(self, failing: Failing) -> None:
        raised = errors.NotFound("x")
        raised.metadata = dict.fromkeys(["self", "message", "reason", "retry_after", "service"], "v")
        found = from_rpc_error(await failing.answer_to(raised), service="analytics")
        assert found.metadata == raised.metadata


class TestStatus:
    @pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
    async def test_has_the_documented_code_and_exactly_one_error_info(
        self, failing: Failing, kind: type[PlatformError]
    ) -> None:
        raised = example(kind, 3.0)
        status = await failing.answer_to(raised)
        assert status.code().name == _documented_codes()[kind.__name__]
        assert status.details() == raised.message
        info = error_info(status)
        assert (info.domain, info.reason, dict(info.metadata)) == ("realmultillm", raised.reason, raised.metadata)
        assert len(details(status, error_details_pb2.BadRequest)) == (kind is InvalidRequest)
        retries = details(status, error_details_pb2.RetryInfo)
        assert [retry.retry_delay.ToMilliseconds() for retry in retries] == ([] if kind is InvalidRequest else [3000])

    @pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2"), (90.0, "90")])
    async def test_the_retry_after_header_is_in_whole_seconds_rounded_up(
        self, failing: Failing, seconds: float, header: str
    ) -> None:
        status = await failing.answer_to(Unavailable("away", retry_after=seconds))
        assert dict(status.trailing_metadata())["retry-after"] == header

    async def test_there_is_no_such_header_when_nobody_knows(self, failing: Failing) -> None:
        status = await failing.answer_to(Unavailable("away"))
        assert "retry-after" not in dict(status.trailing_metadata())

    async def test_any_number_of_violations_fits(self, failing: Failing) -> None:
        raised = InvalidRequest([Violation(f"messages[{i}].role", "must be one of «a», «b».") for i in range(5000)])
        found = from_rpc_error(await failing.answer_to(raised), service="analytics")
        assert isinstance(found, InvalidRequest)
        assert 10 <= len(found.violations) < 5000
        assert found.violations == raised.violations[: len(found.violations)]
        assert found.message.startswith("messages[0].role: must be one of «a», «b». messages[1]")

    async def test_the_longest_violations_fit(self, failing: Failing) -> None:
        raised = InvalidRequest([Violation("日" * 60, "本" * 120) for _ in range(100)])
        assert isinstance(from_rpc_error(await failing.answer_to(raised), service="analytics"), InvalidRequest)


class TestWhatCannotBeCarried:
    @pytest.mark.parametrize(
        "error",
        [
            PlatformError("hunter2", reason="NOT_FOUND"),
            type("Novel", (errors.NotFound,), {})("hunter2"),
            errors.NotFound("hunter2", count=5),  # type: ignore[arg-type]
            errors.NotFound("half a character: \ud83d hunter2"),
            Unavailable("hunter2", retry_after=float("inf")),
            Unavailable("hunter2", retry_after=1e300),
            RuntimeError("hunter2"),
            KeyError("hunter2"),
            ExceptionGroup("hunter2", [errors.NotFound("hunter2")]),
        ],
        ids=lambda error: type(error).__name__,
    )
    async def test_is_a_bug_and_leaks_nothing(self, failing: Failing, error: Exception) -> None:
        status = await failing.answer_to(error)
        assert status.code() is grpc.StatusCode.INTERNAL
        assert error_info(status).reason == "INTERNAL"
        assert "hunter2" not in f"{status.details()} {status.trailing_metadata()} {status.debug_error_string()}"
        assert error_info(status).metadata["requestId"] in str(status.details())

    async def test_a_bug_elsewhere_means_that_the_service_is_unavailable(self, failing: Failing) -> None:
        found = from_rpc_error(await failing.answer_to(RuntimeError("a bug")), service="analytics")
        assert type(found) is Unavailable
        assert found.metadata == {"service": "analytics"}
        assert "analytics" in found.message

    async def test_what_no_service_of_ours_said_is_not_taken_for_its_word(self) -> None:
        for code in grpc.StatusCode:
            foreign = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "upstream says hunter2")
            found = from_rpc_error(foreign, service="auth")
            expected = errors.DeadlineExceeded if code is grpc.StatusCode.DEADLINE_EXCEEDED else Unavailable
            assert type(found) is expected
            assert "hunter2" not in found.message

    @pytest.mark.parametrize("garbage", [b"", b"\xff\xff\xff", b"\x08\x05\x12\x03abc"])
    async def test_garbled_details_are_not_taken_either(self, garbage: bytes) -> None:
        trailing = grpc.aio.Metadata(("grpc-status-details-bin", garbage))
        foreign = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), trailing, "x")
        assert type(from_rpc_error(foreign, service="auth")) is Unavailable


class TestCatalogue:
    def test_every_error_has_a_code(self) -> None:
        assert set(CODES) == set(every_error())
        for kind in every_error():
            to_status(example(kind))

    @pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
    def test_every_default_reason_is_in_the_contract(self, kind: type[PlatformError]) -> None:
        assert kind.default_reason in set(ErrorReason.keys())

    def test_every_reason_the_code_names_is_in_the_contract(self) -> None:
        named = {reason for _, reason in _reasons_in_code()} | {reply.reason for reply in LOCAL_REPLIES}
        assert named <= set(ErrorReason.keys())

    def test_every_reason_of_the_contract_has_a_user(self) -> None:
        used = {kind.default_reason for kind in every_error()} | {reason for _, reason in _reasons_in_code()}
        used |= {reply.reason for reply in LOCAL_REPLIES} | {"INTERNAL"}
        assert set(ErrorReason.keys()) - used == {"ERROR_REASON_UNSPECIFIED", *_WITHOUT_USER}


_WITHOUT_USER = {
    "UNIMPLEMENTED": "gRPC itself answers for methods that are not there, with a bare status",
}


def _documented_codes() -> dict[str, str]:
    """Reads the tree at the top of libs/errors.py."""
    rows = (line.split() for line in (errors.__doc__ or "").splitlines() if "├─ " in line or "└─ " in line)
    return {row[next(i for i, word in enumerate(row) if word.isidentifier())]: row[-1] for row in rows}


def _reasons_in_code() -> Iterator[tuple[Path, str]]:
    """Finds every `reason="…"` argument in libs and services."""
    for folder in ("libs", "services"):
        for path in (ROOT / folder).rglob("*.py"):
            if "gen" in path.relative_to(ROOT).parts:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.keyword) and node.arg == "reason" and isinstance(node.value, ast.Constant):
                    yield path, str(node.value.value)
