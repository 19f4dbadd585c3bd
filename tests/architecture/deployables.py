"""What each process of the platform serves, read from its wiring."""

from __future__ import annotations

import ast
from importlib import import_module

from google.protobuf.descriptor import ServiceDescriptor

from libs.rpc.access_policy import ANY_WORKER, AccessPolicy
from tests.architecture import descriptors
from tests.architecture.source_code import Module, modules

# Module with the wiring and package with the policy, of each process. One wiring serves all workers.
_WIRINGS = {
    "auth": ("services.auth.__main__", "services.auth"),
    "key-vault": ("services.key_vault.__main__", "services.key_vault"),
    "provider-router": ("services.provider_router.__main__", "services.provider_router"),
    "analytics": ("services.analytics.__main__", "services.analytics"),
    "worker": ("libs.worker.bootstrap", "libs.worker"),
}
DEPLOYABLES = tuple(_WIRINGS)
# Whom a rule may name. No rule names one worker: which providers there are is nothing the code knows.
SERVICE_NAMES = frozenset({"auth", "key-vault", "provider-router", "analytics", "envoy", "operator", ANY_WORKER})

# Registrations that are not the generated ones, and what they register.
_OWN_REGISTRATIONS = {
    "add_chat_forwarder_to_server": ("realmultillm.chat.v1.ChatService",),
    "add_comparison_servicer_to_server": ("realmultillm.chat.v1.ComparisonService",),
    "add_dialect_forwarder_to_server": (
        "realmultillm.anthropic.v1.MessageService",
        "realmultillm.openai.v1.ChatCompletionService",
        "realmultillm.openai.v1.EmbeddingService",
    ),
}


def policy(deployable: str) -> AccessPolicy:
    """Returns the access policy of a process."""
    found: AccessPolicy = import_module(f"{_WIRINGS[deployable][1]}.access_policy").ACCESS_POLICY
    return found


def served(deployable: str) -> list[ServiceDescriptor]:
    """Returns the services a process registers."""
    by_name = {service.full_name: service for service in descriptors.services()}
    return [by_name[name] for name in registered_names(wiring(deployable))]


def wiring(deployable: str) -> Module:
    return next(module for module in modules("libs", "services") if module.name == _WIRINGS[deployable][0])


def registered_names(module: Module) -> list[str]:
    """Lists the full names of the services whose registration a module calls or binds; importing one does not count."""
    used = {node.id for node in ast.walk(module.tree) if isinstance(node, ast.Name)}
    found = [name for own, names in _OWN_REGISTRATIONS.items() if own in used for name in names]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.endswith("_pb2_grpc"):
            package = node.module.rpartition(".")[0]
            found += [
                f"{package}.{alias.name.removeprefix('add_').removesuffix('Servicer_to_server')}"
                for alias in node.names
                if alias.name.startswith("add_") and (alias.asname or alias.name) in used
            ]
    return sorted(found)
