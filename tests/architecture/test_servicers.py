"""Every method of the protos is written, as a coroutine, by the servicer that offers it."""

import inspect
from importlib import import_module
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import ServiceDescriptor

from services.provider_router.chat_forwarding import add_chat_forwarder_to_server
from tests.architecture.descriptors import services
from tests.architecture.source_code import modules

_MODULES = tuple(
    import_module(module.name) for module in modules("libs", "services") if module.path.endswith("servicer.py")
)


def generated_base(service: ServiceDescriptor) -> type:
    module = import_module(service.file.name.removesuffix(".proto").replace("/", ".") + "_pb2_grpc")
    found: type = getattr(module, f"{service.name}Servicer")
    return found


def servicers(service: ServiceDescriptor) -> list[type]:
    """Returns the platform's classes for a service."""
    base = generated_base(service)
    return [
        member
        for module in _MODULES
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, base) and member is not base
    ]


class TestServicers:
    @pytest.mark.parametrize("service", services(), ids=lambda service: service.full_name)
    def test_each_service_has_one(self, service: ServiceDescriptor) -> None:
        assert len(servicers(service)) == 1

    @pytest.mark.parametrize("service", services(), ids=lambda service: service.full_name)
    def test_each_method_is_overridden_and_asynchronous(self, service: ServiceDescriptor) -> None:
        (servicer,) = servicers(service)
        for method in service.methods:
            written = vars(servicer).get(method.name)
            assert written is not None, f"{servicer.__name__} leaves {method.name} unwritten"
            if inspect.isasyncgenfunction(written):
                assert method.server_streaming, method.full_name
            else:
                assert inspect.iscoroutinefunction(written), method.full_name

    @pytest.mark.parametrize("service", services(), ids=lambda service: service.full_name)
    def test_a_servicer_offers_nothing_the_proto_does_not_know(self, service: ServiceDescriptor) -> None:
        (servicer,) = servicers(service)
        offered = {name for name in vars(servicer) if name[0].isupper()}
        assert offered == {method.name for method in service.methods}


class Recorder:
    """Takes registrations in place of a server."""

    def __init__(self) -> None:
        self.handlers: list[grpc.GenericRpcHandler] = []

    def add_generic_rpc_handlers(self, handlers: tuple[grpc.GenericRpcHandler, ...]) -> None:
        self.handlers += handlers


class TestForwarding:
    async def test_the_router_forwards_every_method_of_chat_in_its_kind(self) -> None:
        class Forwarder:
            def __getattr__(self, name: str) -> Any:
                async def forward(request: bytes, context: Any) -> None: ...

                return forward

        recorder = Recorder()
        add_chat_forwarder_to_server(Forwarder(), recorder)  # type: ignore[arg-type]
        (handler,) = recorder.handlers
        (service,) = [service for service in services() if service.full_name == "realmultillm.chat.v1.ChatService"]
        for method in service.methods:
            details = type("Details", (), {"method": f"/{service.full_name}/{method.name}", "invocation_metadata": ()})
            found = handler.service(details)
            assert found is not None, method.name
            assert found.response_streaming == method.server_streaming
            assert found.request_streaming == method.client_streaming
            # Bytes in and bytes out: the router decodes nothing.
            assert found.request_deserializer is None
            assert found.response_serializer is None
