"""Who comes in by which door: TLS and not, gRPC and REST on the same ports, and what stays inside."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import grpc
import httpx
import pytest
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from realmultillm.analytics.v1 import usage_ingest_service_pb2
from realmultillm.auth.v1 import token_service_pb2
from realmultillm.auth.v1.auth_service_pb2 import SignInRequest, SignInResponse
from realmultillm.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from realmultillm.keyvault.v1 import credential_service_pb2
from realmultillm.provider.v1 import provider_service_pb2

from deploy.envoy.render import EnvoyConfig, write_configuration
from deploy.local.binaries import ENVOY
from libs.errors import LimitExceeded
from libs.provider_catalog import load_catalog
from libs.providers import worker_service
from tests.integration.envoy.conftest import Backends
from tests.support.envoy import FrontDoor, envoy_config
from tests.support.rpc import error_info
from tests.support.waiting import within_bound

INTERNAL = [
    module.DESCRIPTOR.services_by_name[name]
    for module, name in (
        (token_service_pb2, "TokenService"),
        (credential_service_pb2, "CredentialService"),
        (usage_ingest_service_pb2, "UsageIngestService"),
        (provider_service_pb2, "ProviderService"),
    )
]


class TestTls:
    async def test_rest_over_tls_1_3(self, front_door: FrontDoor, backends: Backends) -> None:
        async with httpx.AsyncClient(
            base_url=front_door.secure_url, verify=front_door.trust(), trust_env=False
        ) as rest:
            response = await rest.get("/api/health")

        assert response.status_code == 200
        (call,) = backends["provider-router"].asked
        assert call.metadata["x-forwarded-proto"] == "https"

    @pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
    async def test_offers_both_versions_of_http(self, front_door: FrontDoor, protocol: str) -> None:
        trust = front_door.trust()
        trust.set_alpn_protocols([protocol])
        _, writer = await asyncio.open_connection("127.0.0.1", front_door.https_port, ssl=trust)
        negotiated = writer.get_extra_info("ssl_object")
        writer.close()

        assert (negotiated.version(), negotiated.selected_alpn_protocol()) == ("TLSv1.3", protocol)

    async def test_refuses_tls_1_2(self, front_door: FrontDoor) -> None:
        old = front_door.trust()
        old.maximum_version = ssl.TLSVersion.TLSv1_2

        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            await asyncio.open_connection("127.0.0.1", front_door.https_port, ssl=old)


class TestGrpc:
    @pytest.mark.parametrize("secure", [False, True])
    async def test_shares_the_ports_with_rest(self, front_door: FrontDoor, backends: Backends, secure: bool) -> None:
        async def sign_in(request: SignInRequest, context: object) -> SignInResponse:
            return SignInResponse(token=f"token of {request.email}")

        backends["auth"].answers["SignIn"] = sign_in

        async with front_door.secure_channel() if secure else front_door.channel() as channel:
            answer = await AuthServiceStub(channel).SignIn(SignInRequest(email="a@example.com"), timeout=10)

        assert answer.token == "token of a@example.com"

    async def test_errors_keep_their_details(self, front_door: FrontDoor, backends: Backends) -> None:
        async def refuse(request: SignInRequest, context: object) -> None:
            raise LimitExceeded("Wait.", retry_after=3)

        backends["auth"].answers["SignIn"] = refuse

        async with front_door.channel() as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await AuthServiceStub(channel).SignIn(SignInRequest(), timeout=10)

        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error_info(caught.value).reason == "RATE_LIMIT_EXCEEDED"


class TestInside:
    @pytest.mark.parametrize("service", INTERNAL, ids=lambda service: service.name)
    async def test_internal_services_cannot_be_called(
        self, front_door: FrontDoor, rest: httpx.AsyncClient, backends: Backends, service: ServiceDescriptor
    ) -> None:
        paths = [f"/{service.full_name}/{method.name}" for method in service.methods]

        for path in paths:
            assert await _grpc_status(front_door, path) is grpc.StatusCode.UNIMPLEMENTED
            assert (await rest.post(path, json={})).status_code == 404
        assert backends.asked() == {}

    async def test_neither_can_health_and_reflection(self, front_door: FrontDoor) -> None:
        async with front_door.channel() as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

        reflection = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        assert await _grpc_status(front_door, reflection) is grpc.StatusCode.UNIMPLEMENTED

    @pytest.mark.parametrize("disguise", ["/api/auth/..", "/api/auth/%2e%2e", "/", "/api/health/../.."])
    async def test_no_path_leads_around(self, front_door: FrontDoor, backends: Backends, disguise: str) -> None:
        path = disguise.rstrip("/") + "/realmultillm.auth.v1.TokenService/VerifyToken"

        assert await _grpc_status(front_door, path) is not grpc.StatusCode.OK
        assert backends.asked() == {}


class TestProductionConfiguration:
    async def test_envoy_accepts_it(self, pki_folder: Path, tmp_path: Path) -> None:
        services = ("auth", "key-vault", "analytics", "provider-router", *map(worker_service, load_catalog()))
        config = envoy_config(
            tmp_path,
            pki_folder,
            {name: [f"{name}.realmultillm.svc.cluster.local:5100", "[::1]:5100"] for name in services},
            bind_address="0.0.0.0",
            http_port=8080,
            https_port=8443,
            trusted_hops=2,
            max_heap_mib=384,
            allowed_origins=["https://app.example.com", "http://localhost:3000"],
        )

        await _validate(config, tmp_path)

    async def test_no_value_breaks_out_of_its_place(self, pki_folder: Path, tmp_path: Path) -> None:
        hostile = tmp_path / "a\"b'c: {d}\n- <e> & #f\\"
        config = envoy_config(
            tmp_path,
            pki_folder,
            {name: ["127.0.0.1:1"] for name in ("auth", "key-vault", "analytics", "provider-router")},
            access_log=hostile,
        )

        await _validate(config, tmp_path)
        assert hostile.exists(), "Envoy opens the log that the configuration names"


async def _grpc_status(front_door: FrontDoor, path: str) -> grpc.StatusCode:
    async with front_door.channel() as channel:
        call = channel.unary_unary(path)(b"", timeout=10)
        return await call.code()


async def _validate(config: EnvoyConfig, folder: Path) -> None:
    path = write_configuration(config, folder)
    process = await asyncio.create_subprocess_exec(
        *(ENVOY, "--mode", "validate", "-c", path, "--log-level", "warning"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await within_bound(process.communicate())
    assert process.returncode == 0, output.decode()
    assert b"deprecated" not in output.lower()
