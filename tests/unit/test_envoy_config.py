"""What the configuration of Envoy is made from fits the protos, and wrong input is refused with all its faults."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from google.api import annotations_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet, MethodOptions
from google.protobuf.descriptor_pool import DescriptorPool
from realmultillm.errors.v1.error_reason_pb2 import ErrorReason

from deploy.envoy import descriptors
from deploy.envoy.local_replies import LOCAL_REPLIES
from deploy.envoy.render import EnvoyConfig, render, secrets
from deploy.envoy.routes import PUBLIC_SERVICES, Route, routes
from libs.providers import worker_service

PROVIDERS = ("openai", "google-ai", "our-vllm-2")
CORE = ("auth", "key-vault", "analytics", "provider-router")


@pytest.fixture(scope="module")
def descriptor_set(tmp_path_factory: pytest.TempPathFactory) -> FileDescriptorSet:
    path = tmp_path_factory.mktemp("envoy") / "nested" / "descriptors.pb"
    descriptors.build(path)
    return FileDescriptorSet.FromString(path.read_bytes())


@pytest.fixture(scope="module")
def services(descriptor_set: FileDescriptorSet) -> list[ServiceDescriptor]:
    """Every service of the platform."""
    pool = DescriptorPool()
    for file in descriptor_set.file:
        pool.Add(file)
    return [
        pool.FindServiceByName(f"{file.package}.{service.name}")
        for file in descriptor_set.file
        for service in file.service
        if file.package.startswith("realmultillm.")
    ]


def http_paths(service: ServiceDescriptor) -> list[str]:
    """Returns the paths of a service's HTTP bindings, with `{}` for the variables."""
    paths = []
    for method in service.methods:
        # Read anew: a pool of one's own does not know the extensions of the default pool.
        options = MethodOptions.FromString(method.GetOptions().SerializeToString())
        rule: HttpRule = options.Extensions[annotations_pb2.http]
        if pattern := rule.WhichOneof("pattern"):
            paths.append(re.sub(r"\{\w+\}", "{}", getattr(rule, pattern)))
    return paths


# Whose answers are chats.
CHATS = {
    "realmultillm.chat.v1.ChatService",
    "realmultillm.chat.v1.ComparisonService",
    "realmultillm.openai.v1.ChatCompletionService",
    "realmultillm.openai.v1.EmbeddingService",
    "realmultillm.anthropic.v1.MessageService",
}
# Whose calls may last as long as an answer does: of analytics, those that write out much.
LASTING = CHATS | {
    "realmultillm.analytics.v1.AnalyticsService",
    "realmultillm.analytics.v1.PlatformAnalyticsService",
}


def route_of(path: str, *, grpc: bool = False) -> Route | None:
    """Returns the first route that takes a path, as Envoy would."""
    for route in routes(PROVIDERS):
        matches = {
            "path": path == route.value,
            "prefix": path.startswith(route.value),
            "pattern": re.fullmatch(route.value, path) is not None,
        }
        if matches[route.kind] and route.grpc <= grpc:
            return route
    return None


class TestRoutes:
    def test_the_services_with_http_bindings_are_the_public_ones(self, services: list[ServiceDescriptor]) -> None:
        assert {service.full_name for service in services if http_paths(service)} == PUBLIC_SERVICES.keys()

    def test_every_http_binding_leads_to_the_service_that_serves_it(self, services: list[ServiceDescriptor]) -> None:
        for service in services:
            for path in http_paths(service):
                route = route_of(re.sub(r"\{[^}]*\}", "anything", path))
                assert route is not None, path
                assert route.cluster == PUBLIC_SERVICES[service.full_name], path
                assert route.chat == (service.full_name in CHATS), path
                assert route.lasting == path.endswith("/export"), path
                assert route.dialect == ("/v1/" in path or path.endswith("/v1")), path

    def test_every_public_service_is_reached_by_grpc(self) -> None:
        for service, cluster in PUBLIC_SERVICES.items():
            route = route_of(f"/{service}/Method", grpc=True)
            assert route is not None
            assert route.cluster == cluster
            assert route.lasting == (service in LASTING)

    @pytest.mark.parametrize("provider", PROVIDERS)
    def test_a_chat_that_names_its_provider_goes_to_the_worker(self, provider: str) -> None:
        for path in (f"/api/chat/{provider}", f"/api/chat/{provider}/stream"):
            assert route_of(path) == Route(
                "pattern", f"/api/chat/{provider}(/stream)?", worker_service(provider), chat=True
            )

    @pytest.mark.parametrize("path", ["/api/chat/openai/streams", "/api/chat/openai2", "/api/chat/auto"])
    def test_other_chats_go_to_the_router(self, path: str) -> None:
        route = route_of(path)
        assert route is not None
        assert route.cluster == "provider-router"


class TestDescriptors:
    def test_the_types_of_error_details_are_known(self, descriptor_set: FileDescriptorSet) -> None:
        messages = {f"{file.package}.{each.name}" for file in descriptor_set.file for each in file.message_type}
        assert {f"google.rpc.{name}" for name in ("ErrorInfo", "RetryInfo", "BadRequest", "QuotaFailure")} <= messages


class TestLocalReplies:
    def test_reasons_are_those_of_the_platform(self) -> None:
        assert {reply.reason for reply in LOCAL_REPLIES} <= set(ErrorReason.keys())

    def test_every_error_status_has_a_reply_whatever_else_is_true(self) -> None:
        unconditional = [
            reply for reply in LOCAL_REPLIES if not (reply.flags or reply.original_path or reply.request_id)
        ]
        for status in range(400, 600):
            assert any(low <= status <= high for low, high in (reply.statuses for reply in unconditional)), status


def config_json(**changes: object) -> str:
    fields = {
        "http_port": 8080,
        "https_port": 8443,
        "admin_port": 9901,
        "tls_dir": "/etc/tls",
        "public_tls_dir": "/etc/public-tls",
        "descriptor_set": "/etc/envoy/descriptors.pb",
        "clusters": {name: [f"{name}:5100"] for name in CORE},
    }
    return json.dumps(fields | changes)


class TestRendering:
    def test_every_fault_is_told_at_once(self) -> None:
        config = EnvoyConfig.from_json(
            config_json(
                clusters={"auth": [], "key-vault": ["nowhere"], "analytics": ["a:1", "b:2 }"], "worker-A": ["c:3"]},
                allowed_origins=["*", "https://app.example.com/", "https://app.example.com"],
                otlp_endpoint="collector:4317",
                trace_ratio=1.5,
                max_heap_mib=0,
            )
        )

        with pytest.raises(ValueError) as caught:
            render(config, Path())

        assert str(caught.value).splitlines() == [
            "clusters: provider-router is missing",
            "clusters: worker-A is not a service people may reach",
            "clusters: auth has no address",
            "clusters: nowhere is not host:port",
            "clusters: b:2 } is not host:port",
            "allowed_origins: * is not an origin like https://app.example.com",
            "allowed_origins: https://app.example.com/ is not an origin like https://app.example.com",
            "otlp_endpoint: collector:4317 is not http://host:port or https://host:port",
            "trace_ratio: 1.5 is not between 0 and 1",
            "max_heap_mib: must be at least 1",
        ]

    def test_every_worker_given_gets_its_route(self) -> None:
        workers = {"worker-openai": ["o:1"], "worker-our-vllm-2": ["v:1", "v:2"]}
        config = EnvoyConfig.from_json(config_json(clusters={name: [f"{name}:5100"] for name in CORE} | workers))

        rendered = render(config, Path())

        assert '"/api/chat/our-vllm-2(/stream)?"' in rendered
        assert '"/api/chat/openai(/stream)?"' in rendered
        assert "google-ai" not in rendered

    def test_the_command_writes_what_render_returns_and_the_secrets_it_names(self, tmp_path: Path) -> None:
        path = tmp_path / "envoy.json"
        path.write_text(config_json())

        printed = _command(path)

        assert (printed.returncode, printed.stdout, printed.stderr) == (0, "", "")
        config = EnvoyConfig.from_json(path.read_text())
        written = {file.name: file.read_text() for file in tmp_path.iterdir() if file != path}
        assert written == {"envoy.yaml": render(config, tmp_path), **secrets(config)}
        named = re.findall(
            rf'path_config_source: \{{path: "{re.escape(str(tmp_path))}/([a-z.-]+)"', written["envoy.yaml"]
        )
        assert {*named, "envoy.yaml"} == written.keys()

    @pytest.mark.parametrize("text", ["{", "[]", '{"unknown": 1}', config_json(clusters={})])
    def test_the_command_says_what_is_wrong_without_a_traceback(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "envoy.json"
        path.write_text(text)

        printed = _command(path)

        assert (printed.returncode, printed.stdout) == (1, "")
        assert printed.stderr.startswith("The configuration of Envoy is not usable: ")
        assert "Traceback" not in printed.stderr


def _command(config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.envoy.render", "--config", str(config), "--to", str(config.parent)],
        capture_output=True,
        text=True,
        timeout=60,
    )
