"""Who calls whom, read from the code: what the picture of the platform must show wherever it runs.

A service calls those whose addresses it is told, Envoy those whose access tables admit it, and workers the providers.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from libs.provider_catalog import load_catalog
from libs.providers import provider_of, worker_service
from libs.rpc.access_policy import ANY_WORKER
from libs.rpc.identity import FRONT_DOOR
from libs.settings import variables
from tests.architecture.deployables import DEPLOYABLES, policy

Arrows = frozenset[tuple[str, str]]

WORKERS = frozenset(map(worker_service, load_catalog(None)))
SERVICES = frozenset(DEPLOYABLES) - {"worker"} | WORKERS
# The world outside, which workers alone may call.
PROVIDERS = "providers"

# People with a certificate, who run no process of the platform.
_PEOPLE = "operator"
_SETTINGS = {
    "auth": "services.auth.settings",
    "key-vault": "services.key_vault.settings",
    "provider-router": "services.provider_router.settings",
    "analytics": "services.analytics.settings",
    "worker": "libs.worker.settings",
}
# Settings that tell a service where something is, and what that is.
LEADING = {
    "AUTH_ADDRESS": {"auth"},
    "KEY_VAULT_ADDRESS": {"key-vault"},
    "ANALYTICS_ADDRESS": {"analytics"},
    "WORKERS": WORKERS,
    "DATABASE_URL": {"postgres"},
    "REDIS_URL": {"redis"},
    "VAULT_ADDRESS": {"vault"},
    "OTLP_ENDPOINT": {"otel-collector"},
}


def told() -> Arrows:
    """Pairs of a service and whatever else it is told the address of."""
    return frozenset(
        (caller, called)
        for deployable in DEPLOYABLES
        for name, destinations in LEADING.items()
        if name in _names_of_settings(deployable)
        for caller in _of(deployable)
        for called in destinations
    )


def admitted() -> Arrows:
    """Pairs of caller and called, as the access tables admit them, people with certificates excepted."""
    return frozenset(
        (caller, called)
        for deployable in DEPLOYABLES
        for rule in policy(deployable).values()
        for peer in rule.peers - {_PEOPLE}
        for caller in _of(peer)
        for called in _of(deployable)
    )


def drawn() -> Arrows:
    """All pairs of caller and called."""
    through_the_door = {(caller, called) for caller, called in admitted() if caller == FRONT_DOOR}
    return told() | through_the_door | {(worker, PROVIDERS) for worker in WORKERS} | {(FRONT_DOOR, "otel-collector")}


def settings_of(service: str) -> tuple[str, type]:
    """Returns the prefix of a service's variables, and the dataclass that they are read into."""
    provider = provider_of(service)
    shared = import_module(_SETTINGS["worker" if provider else service])
    if provider is None:
        return shared.PREFIX, shared.Settings
    # Some workers have settings beside those of all.
    own = f"services.workers.{load_catalog(None)[provider].worker}.settings"
    return shared.PREFIX, (import_module(own) if find_spec(own) else shared).Settings


def _names_of_settings(deployable: str) -> set[str]:
    module = import_module(_SETTINGS[deployable])
    return {name.removeprefix(f"{module.PREFIX}_") for name, *_ in variables(module.Settings, module.PREFIX)}


def _of(name: str) -> frozenset[str]:
    return WORKERS if name in ("worker", ANY_WORKER) else frozenset({name})
