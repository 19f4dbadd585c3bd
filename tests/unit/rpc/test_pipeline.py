"""What every call passes through, for all four kinds of methods, over a real connection with real certificates."""

import asyncio
import re
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from deploy.local.pki import issue
from libs.errors import NotFound, Unavailable
from libs.redaction import Secret
from libs.rpc.access_policy import UNBOUNDED
from libs.rpc.channel import open_channel, within
from libs.rpc.identity import caller, current_call
from libs.rpc.tls import TlsIdentity
from tests.support.rpc import Identities, KnownTokens, bearer, error_info
from tests.support.waiting import within_bound
from tests.unit.rpc.conftest import KINDS, SERVICE, Client, Echo, client_as, raising, read_all


class TestAllKinds:
    @pytest.mark.parametrize(
        ("kind", "requests", "answers"),
        [
            ("unary_unary", [b"a"], [b"a"]),
            ("unary_stream", [b"a"], [b"a", b"a"]),
            ("stream_unary", [b"a", b"b"], [b"a,b"]),
            ("stream_stream", [b"a", b"b"], [b"a", b"b"]),
        ],
    )
    async def test_messages_pass(self, envoy: Client, kind: str, requests: list[bytes], answers: list[bytes]) -> None:
        assert await envoy.call(kind, *requests) == answers
        assert await envoy.call(kind, *requests) == answers  # the second time the handler is wrapped already

    async def test_a_stream_may_be_written_instead_of_yielded(self, envoy: Client) -> None:
        assert [message async for message in envoy.open("written", b"a", kind="unary_stream")] == [b"a"]

    @pytest.mark.parametrize(
        ("method", "known", "reason"),
        [("unary_unary", False, "INVALID_ARGUMENT"), ("personal", True, "INVALID_ARGUMENT"),
         ("personal", False, "UNAUTHENTICATED"), ("written", False, "INVALID_ARGUMENT")],
    )  # fmt: skip
    async def test_a_request_without_a_message_is_answered(
        self, envoy: Client, tokens: KnownTokens, echo: Echo, method: str, known: bool, reason: str
    ) -> None:
        metadata = bearer(tokens.issue("usr_1")) if known else ()
        kind = "stream_stream" if method == "written" else "stream_unary"
        answer = envoy.open(method, kind=kind, metadata=metadata)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (read_all(answer) if kind == "stream_stream" else answer)
        assert error_info(caught.value).reason == reason
        assert not echo.calls

    async def test_compressed_messages_are_not_taken(self, envoy: Client, echo: Echo) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await envoy.open("unary_unary", bytes(1_000_000), compression=grpc.Compression.Gzip)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert not echo.calls

    @pytest.mark.parametrize("kind", KINDS)
    async def test_the_method_knows_its_call(self, envoy: Client, echo: Echo, kind: str) -> None:
        await envoy.call(kind, b"a", metadata=(("x-request-id", "request-1"),))
        (call,) = echo.calls
        assert (call.method, call.peer, call.request_id) == (f"/{SERVICE}/{kind}", "envoy", "request-1")
        assert call.principal is None

    @pytest.mark.parametrize("kind", KINDS)
    async def test_an_error_arrives_as_its_status(self, envoy: Client, echo: Echo, kind: str) -> None:
        echo.behavior = raising(NotFound("No such thing.", thing="x"))
        error = await envoy.refused(kind, kind)
        assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "No such thing.")
        assert dict(error_info(error).metadata) == {"thing": "x"}

    @pytest.mark.parametrize("kind", KINDS)
    async def test_what_is_unknown_leaks_nothing(self, envoy: Client, echo: Echo, kind: str, logs: list[Any]) -> None:
        echo.behavior = raising(ValueError("hunter2"))
        error = await envoy.refused(kind, kind, metadata=(("x-request-id", "request-2"),))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert dict(error_info(error).metadata) == {"requestId": "request-2"}
        assert "request-2" in str(error.details())
        assert "hunter2" not in f"{error!r} {error.trailing_metadata()} {error.initial_metadata()}"
        assert "ValueError" not in f"{error!r} {error.trailing_metadata()}"
        (line,) = [line for line in logs if line["event"] == "unhandled error"]
        assert line["request_id"] == "request-2"
        assert line["exc_info"]

    @pytest.mark.parametrize("kind", KINDS)
    async def test_an_abort_of_the_method_itself_passes_unchanged(self, envoy: Client, echo: Echo, kind: str) -> None:
        async def abort(requests: list[bytes], context: Any) -> None:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "as the method says")

        echo.behavior = abort
        error = await envoy.refused(kind, kind)
        assert (error.code(), error.details()) == (grpc.StatusCode.ALREADY_EXISTS, "as the method says")

    async def test_trailing_metadata_of_the_method_survives_its_error(self, envoy: Client, echo: Echo) -> None:
        async def fail(requests: list[bytes], context: Any) -> None:
            context.set_trailing_metadata((("x-own", "kept"),))
            raise Unavailable("away", retry_after=2)

        echo.behavior = fail
        trailing = dict((await envoy.refused("unary_unary")).trailing_metadata())
        assert (trailing["x-own"], trailing["retry-after"]) == ("kept", "2")


class TestRequestThatIsNone:
    """What cannot be read as the message of the method."""

    @pytest.mark.parametrize("request_", [b"\xff\xff", b"\x0a\x01\xff", b"\x0b" * 200], ids=["bytes", "text", "depth"])
    async def test_is_refused_without_the_words_of_the_library(
        self, envoy: Client, tokens: KnownTokens, request_: bytes
    ) -> None:
        answer = envoy.open("parsed", request_, metadata=bearer(tokens.issue("usr_1")))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answer
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert error_info(caught.value).reason == "INVALID_ARGUMENT"
        assert "DecodeError" not in str(caught.value)

    async def test_is_not_even_read_for_nobody(self, envoy: Client) -> None:
        answer = envoy.open("parsed", b"\xff\xff")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answer
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED

    async def test_one_that_is_arrives_as_a_message(self, envoy: Client, tokens: KnownTokens) -> None:
        request = StringValue(value="hello").SerializeToString()
        assert await envoy.open("parsed", request, metadata=bearer(tokens.issue("usr_1"))) == b"hello"


class TestLeaving:
    @pytest.mark.parametrize("kind", KINDS)
    async def test_a_caller_who_leaves_cancels_the_method(
        self, envoy: Client, echo: Echo, kind: str, logs: list[Any]
    ) -> None:
        begun, cancelled = asyncio.Event(), asyncio.Event()

        async def wait(requests: list[bytes], context: Any) -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

        echo.behavior = wait
        call = envoy.open(kind, b"x", kind=kind)
        if kind.endswith("stream"):
            reading = asyncio.create_task(read_all(call))
            await within_bound(begun.wait())
            call.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        else:
            await within_bound(begun.wait())
            call.cancel()
        await within_bound(cancelled.wait())
        await within_bound(_line(logs))
        (line,) = [line for line in logs if line["event"] == "call"]
        assert line["code"] == "CANCELLED"

    async def test_the_finally_of_a_generator_runs_when_the_caller_leaves_between_messages(
        self, envoy: Client, echo: Echo
    ) -> None:
        async def wait(requests: list[bytes], context: Any) -> None:
            await asyncio.Event().wait()

        echo.behavior = wait
        call = envoy.open("unary_stream", b"x", kind="unary_stream")
        assert await call.read() == b"x"
        assert not echo.closed.is_set()
        call.cancel()
        await within_bound(echo.closed.wait())

    async def test_the_finally_of_a_generator_runs_when_a_write_fails(self, envoy: Client, echo: Echo) -> None:
        async def many(requests: list[bytes], context: Any) -> None:
            requests[:] = [b"x" * 65536] * 10_000  # more than any window takes: the method stands in a write

        echo.behavior = many
        call = envoy.open("unary_stream", b"x", kind="unary_stream")
        await call.read()
        await call.read()
        call.cancel()
        await within_bound(echo.closed.wait())


async def _line(logs: list[Any]) -> None:
    while not any(line["event"] == "call" for line in logs):
        await asyncio.sleep(0.005)


class TestDeadline:
    async def test_the_methods_own_ends_it(self, envoy: Client, echo: Echo) -> None:
        async def wait(requests: list[bytes], context: Any) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                echo.closed.set()

        echo.behavior = wait
        error = await envoy.refused("brief")
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert error_info(error).reason == "DEADLINE_EXCEEDED"  # said by the server, not by the client's own clock
        await within_bound(echo.closed.wait())

    async def test_the_callers_ends_it_where_it_is_shorter(self, envoy: Client, echo: Echo) -> None:
        async def wait(requests: list[bytes], context: Any) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                echo.closed.set()

        echo.behavior = wait
        error = await envoy.refused("unary_unary", timeout=0.2)
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await within_bound(echo.closed.wait())

    @pytest.mark.parametrize(
        ("method", "timeout", "longest"), [("brief", 10, 0.3), ("unary_unary", 3, 3), ("unary_unary", None, 15)]
    )
    async def test_the_method_knows_what_is_left(
        self, envoy: Client, echo: Echo, method: str, timeout: float | None, longest: float
    ) -> None:
        left: list[float] = []
        onward: list[float] = []

        async def note(requests: list[bytes], context: Any) -> None:
            left.append(current_call().deadline - asyncio.get_running_loop().time())
            onward.append(within(1000)["timeout"])

        echo.behavior = note
        await envoy.open(method, b"x", timeout=timeout)
        assert longest - 2.5 < left[0] <= longest
        assert onward[0] < longest

    async def test_a_method_may_be_without(self, envoy: Client, echo: Echo) -> None:
        assert [m async for m in envoy.open("endless", b"x", kind="unary_stream", timeout=None)] == [b"x", b"x"]
        assert echo.calls[0].deadline == UNBOUNDED

    async def test_a_timeout_inside_the_method_is_a_bug_and_not_the_deadline(self, envoy: Client, echo: Echo) -> None:
        echo.behavior = raising(TimeoutError("hunter2"))
        assert (await envoy.refused("unary_unary")).code() is grpc.StatusCode.INTERNAL


class TestAccess:
    @pytest.mark.parametrize("method", ["unlisted", "personal", "unary_unary"])
    @pytest.mark.parametrize("peer", ["operator", "worker-openai", "analytics"])
    async def test_a_service_that_is_not_listed_may_not(
        self, address: str, identity: Identities, echo: Echo, tokens: KnownTokens, peer: str, method: str
    ) -> None:
        async with client_as(peer, address, identity) as client:
            error = await client.refused(method, metadata=bearer(tokens.issue("usr_1", "admin")))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert echo.calls == []

    async def test_a_method_without_a_row_is_closed_to_everyone(self, envoy: Client, echo: Echo) -> None:
        error = await envoy.refused("unlisted")
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert error_info(error).reason == "PERMISSION_DENIED"
        assert echo.calls == []

    async def test_a_method_that_does_not_exist_is_unimplemented(self, envoy: Client) -> None:
        assert (await envoy.refused("nosuch")).code() is grpc.StatusCode.UNIMPLEMENTED

    @pytest.mark.parametrize(("role", "method"), [("user", "personal"), ("admin", "personal"), ("admin", "admin")])
    async def test_a_person_of_the_role_or_a_higher_one_may(
        self, envoy: Client, echo: Echo, tokens: KnownTokens, role: str, method: str
    ) -> None:
        async def note(requests: list[bytes], context: Any) -> None:
            assert caller().user_id == "usr_1"

        echo.behavior = note
        assert await envoy.open(method, b"x", metadata=bearer(tokens.issue("usr_1", role))) == b"x"

    @pytest.mark.parametrize("role", ["user", "", "Admin", "superuser"])
    async def test_a_person_of_a_lower_or_unknown_role_may_not(
        self, envoy: Client, echo: Echo, tokens: KnownTokens, role: str
    ) -> None:
        error = await envoy.refused("admin", metadata=bearer(tokens.issue("usr_1", role)))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert echo.calls == []


class TestAuthentication:
    @pytest.mark.parametrize(
        "value", [None, "", "Bearer", "Bearer ", "Bearer nonsense", "Basic dXNlcjpwYXNz", "rmls_x", "Bearer  rmls_x"]
    )
    async def test_without_a_valid_token_there_is_no_person(self, envoy: Client, echo: Echo, value: str | None) -> None:
        error = await envoy.refused("personal", metadata=(("authorization", value),) if value is not None else ())
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert error_info(error).reason == "UNAUTHENTICATED"
        assert echo.calls == []

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
    async def test_the_scheme_has_no_case(self, envoy: Client, tokens: KnownTokens, scheme: str) -> None:
        metadata = (("authorization", f"{scheme} {tokens.issue('usr_1').reveal()}"),)
        assert await envoy.open("personal", b"x", metadata=metadata) == b"x"

    async def test_the_token_is_repeated_nowhere(
        self, envoy: Client, echo: Echo, tokens: KnownTokens, logs: list[Any]
    ) -> None:
        token = tokens.issue("usr_1")
        echo.behavior = raising(RuntimeError("a bug"))
        error = await envoy.refused("personal", metadata=bearer(token))
        await envoy.refused("personal", metadata=bearer(Secret("rmls_invented")))
        assert token.reveal() not in f"{error!r} {error.trailing_metadata()} {logs}"
        assert "rmls_invented" not in str(logs)

    async def test_a_client_without_a_certificate_is_not_served(
        self, address: str, identity: Identities, echo: Echo
    ) -> None:
        credentials = grpc.ssl_channel_credentials(root_certificates=identity("envoy").material.authority)
        await self._not_served(address, credentials, echo)

    async def test_a_client_of_another_authority_is_not_served(
        self, address: str, identity: Identities, echo: Echo, tmp_path: Any
    ) -> None:
        issue(tmp_path, ["envoy"])
        stranger = TlsIdentity.load(tmp_path / "envoy").material
        ours = identity("envoy").material.authority
        credentials = grpc.ssl_channel_credentials(ours, stranger.private_key, stranger.certificate)
        await self._not_served(address, credentials, echo)

    async def test_a_client_without_tls_is_not_served(self, address: str, echo: Echo) -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            error = await Client(channel).refused("unary_unary", timeout=2)
        assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        assert echo.calls == []

    @staticmethod
    async def _not_served(address: str, credentials: grpc.ChannelCredentials, echo: Echo) -> None:
        options = (("grpc.ssl_target_name_override", "analytics"),)
        async with grpc.aio.secure_channel(address, credentials, options) as channel:
            assert (await Client(channel).refused("unary_unary")).code() is grpc.StatusCode.UNAVAILABLE
        assert echo.calls == []

    @pytest.mark.parametrize("expected", ["auth", "key-vault", "anal"])
    async def test_a_server_that_is_another_service_is_not_called(
        self, address: str, identity: Identities, echo: Echo, expected: str
    ) -> None:
        async with open_channel(address, expected, identity("envoy")) as channel:
            assert (await Client(channel).refused("unary_unary")).code() is grpc.StatusCode.UNAVAILABLE
        assert echo.calls == []

    async def test_a_server_of_another_authority_is_not_called(self, address: str, echo: Echo, tmp_path: Any) -> None:
        issue(tmp_path, ["envoy"])
        async with open_channel(address, "analytics", TlsIdentity.load(tmp_path / "envoy")) as channel:
            assert (await Client(channel).refused("unary_unary")).code() is grpc.StatusCode.UNAVAILABLE
        assert echo.calls == []


class TestRequestId:
    async def test_is_taken_over_and_logged(self, envoy: Client, echo: Echo, logs: list[Any]) -> None:
        await envoy.call("unary_unary", b"x", metadata=(("x-request-id", "0d5a3c1e-5b1f"),))
        assert echo.calls[0].request_id == "0d5a3c1e-5b1f"
        (line,) = logs
        assert (line["event"], line["request_id"], line["peer"], line["code"]) == (
            "call",
            "0d5a3c1e-5b1f",
            "envoy",
            "OK",
        )

    @pytest.mark.parametrize(
        "written", ["short", "x" * 65, 'quote"quote', "a b c d e f", "$(reboot)!", "../../etc", "", "a=b&c=d,e"]
    )
    async def test_one_that_has_not_the_form_is_replaced(self, envoy: Client, echo: Echo, written: str) -> None:
        await envoy.call("unary_unary", b"x", metadata=(("x-request-id", written),))
        assert re.fullmatch(r"[0-9a-f-]{36}", echo.calls[0].request_id)

    async def test_a_secret_in_its_place_is_not_taken_over(
        self, envoy: Client, echo: Echo, tokens: KnownTokens
    ) -> None:
        for secret in (tokens.issue("usr_1").reveal(), "sk-proj-Ab3dEf6hIj9_KlMnOpQrStUv"):
            await envoy.call("unary_unary", b"x", metadata=(("x-request-id", secret),))
            assert echo.calls[-1].request_id != secret

    async def test_every_call_without_one_gets_its_own(self, envoy: Client, echo: Echo) -> None:
        for _ in range(3):
            await envoy.call("unary_unary", b"x")
        assert len({call.request_id for call in echo.calls}) == 3

    async def test_a_failed_call_is_logged_with_its_reason(self, envoy: Client, echo: Echo, logs: list[Any]) -> None:
        echo.behavior = raising(NotFound("No such thing.", reason="MODEL_NOT_FOUND"))
        await envoy.refused("unary_unary")
        # The caller hears of it a moment before it is logged.
        await within_bound(_line(logs))
        (line,) = [line for line in logs if line["event"] == "call"]
        assert (line["code"], line["reason"]) == ("NOT_FOUND", "MODEL_NOT_FOUND")

    async def test_calls_onward_carry_it(self, envoy: Client, echo: Echo) -> None:
        found: list[Any] = []

        async def note(requests: list[bytes], context: Any) -> None:
            found.append(within(5)["metadata"])

        echo.behavior = note
        await envoy.call("unary_unary", b"x", metadata=(("x-request-id", "request-3"),))
        assert found == [(("x-request-id", "request-3"),)]
