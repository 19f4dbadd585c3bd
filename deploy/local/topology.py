"""What the local stack consists of: which process needs which, and the settings each of them gets.

The workers are those of the providers in a catalogue; everything else is the same whatever the catalogue.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.postgres import bootstrap as postgres_bootstrap
from libs.provider_catalog import GENERIC_WORKER, Catalog, load_catalog
from libs.providers import provider_of, worker_service
from libs.settings import SettingsError

_CORE = ("auth", "key-vault", "analytics")

# Processes that must be ready before one starts. A service that keeps a stream open to another waits for it: it
# would recover by itself, but only after a pause in which the first calls fail.
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "postgres": (),
    "vault": (),
    "redis": (),
    "sandbox": (),
    "auth": ("postgres", "redis"),
    "key-vault": ("postgres", "redis", "vault", "auth"),
    "analytics": ("postgres", "redis", "auth"),
    "provider-router": ("redis", *_CORE),
    "envoy": (*_CORE, "provider-router"),
}
_NEEDS_OF_A_WORKER = ("redis", *_CORE, "sandbox")
# They start behind every worker there is, and do without those there are not.
_IN_FRONT_OF_WORKERS = ("provider-router", "envoy")

# For tests and benchmarks, which call in a second what a person may in an hour, and all from one address. The default
# is for what people need an account for.
_OUT_OF_REACH = "1000000/minute"
_NO_LIMITS = {"default": _OUT_OF_REACH, "InvalidTokens": _OUT_OF_REACH}
# Of the services that limit some methods on their own.
_NO_LIMITS_OF = {
    "auth": {**_NO_LIMITS, "SignUp": _OUT_OF_REACH, "SignIn": _OUT_OF_REACH, "ChangePassword": _OUT_OF_REACH},
    "key-vault": {**_NO_LIMITS, "RotateEncryptionKey": _OUT_OF_REACH},
    "analytics": {**_NO_LIMITS, "ExportAnalytics": _OUT_OF_REACH, "ExportPlatformAnalytics": _OUT_OF_REACH},
}

# Ports each process listens on, besides the public ones.
_PORTS = {"vault": ("vault", "vault-cluster"), "envoy": ("envoy-admin", "metrics-of-envoy")}


@dataclass(frozen=True, slots=True)
class Role:
    """How the sandbox plays a provider: where it speaks its dialect, and what its keys begin with there."""

    mount: str
    key_prefix: str


# In the order in which they are shown to somebody new.
SANDBOX_ROLES = {
    "openai": Role("/openai/v1", "sk-sandbox"),
    "anthropic": Role("/anthropic/v1", "sk-ant-sandbox"),
    "google-ai": Role("/google-ai/v1beta", "AIza-sandbox"),
    "openrouter": Role("/openrouter/v1", "sk-or-sandbox"),
    "grok": Role("/grok/v1", "xai-sandbox"),
}


def service_of(process: str) -> str:
    """Returns what a process is a replica of: `auth` for `auth`, and for its second replica, `auth.2`."""
    return process.partition(".")[0]


def replicas_of(service: str, count: int) -> list[str]:
    """Returns the names of so many processes of a service. The first is named like the service."""
    return [service, *(f"{service}.{number}" for number in range(2, count + 1))]


def is_service(name: str) -> bool:
    """Tells whether a process is one of the platform's own services."""
    return service_of(name) in (*_CORE, "provider-router") or provider_of(service_of(name)) is not None


def needs(name: str, present: Collection[str]) -> list[str]:
    """Lists those of the present processes that must be ready before one starts."""
    service = service_of(name)
    needed = set(_hard_needs(service))
    if service in _IN_FRONT_OF_WORKERS:
        needed |= {service_of(other) for other in present if provider_of(service_of(other)) is not None}
    return [other for other in present if service_of(other) in needed]


def _hard_needs(name: str) -> tuple[str, ...]:
    return _NEEDS_OF_A_WORKER if provider_of(name) is not None else _NEEDS[name]


def ports_of(name: str) -> tuple[str, ...]:
    """Returns the names of the ports of a process."""
    return (name, metrics_of(name)) if is_service(name) else _PORTS.get(name, (name,))


def metrics_of(name: str) -> str:
    """Returns the name of the port on which a service tells Prometheus how it fares."""
    return f"metrics-of-{name}"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a stack keeps its files; everything under one private folder."""

    state: Path

    @property
    def pki(self) -> Path:
        """Certificates: one folder per identity."""
        return self.state / "pki"

    @property
    def secrets(self) -> Path:
        """Passwords, keys and URLs with passwords: one file each."""
        return self.state / "secrets"

    @property
    def run(self) -> Path:
        """What belongs to the running stack: specifications, socket, ports."""
        return self.state / "run"

    @property
    def log(self) -> Path:
        """Output of every process."""
        return self.state / "log"

    def data(self, name: str) -> Path:
        """Files a process keeps between runs."""
        return self.state / "data" / name

    def database_url(self, login: str) -> Path:
        """File with the URL a service, or the owner of its tables, connects to the database with."""
        return self.secrets / f"database-url-{login}"


@dataclass(frozen=True, slots=True)
class Topology:
    """The processes of a stack with a worker for each provider of a catalogue.

    `catalog_file` None is the catalogue of the platform. Without `sandbox`, every worker talks to its real provider.
    Without `rate_limits` people are counted, but nobody reaches a limit. `models_file` has facts about models that go
    before those of the platform. `otlp` is the collector that traces go to, None for no traces. `replicas` says how
    many processes a service has, where that is not one.
    """

    catalog: Catalog
    catalog_file: Path | None
    sandbox: bool
    rate_limits: bool
    models_file: Path | None = None
    otlp: str | None = None
    replicas: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        catalog_file: Path | None,
        *,
        sandbox: bool,
        rate_limits: bool = True,
        models_file: Path | None = None,
        otlp: str | None = None,
        replicas: Mapping[str, int] | None = None,
    ) -> Topology:
        """Reads the catalogue. Raises SettingsError when it cannot be used, or for replicas of what has none."""
        catalog = load_catalog(catalog_file)
        services = (*_CORE, "provider-router", *map(worker_service, catalog))
        for name, count in (replicas or {}).items():
            if name not in services or count < 1:
                raise SettingsError(f"There cannot be {count} of {name}: 1 or more can be of {', '.join(services)}.")
        return cls(
            catalog,
            catalog_file and catalog_file.absolute(),
            sandbox,
            rate_limits,
            models_file and models_file.absolute(),
            otlp,
            replicas or {},
        )

    def processes(self, only: Collection[str] | None = None) -> list[str]:
        """Lists all processes, or some and those they cannot do without, each behind those it needs.

        The router and Envoy can do without any worker: name those that shall be there. A service has as many
        processes as `replicas` says.
        """
        infrastructure = ("postgres", "vault", "redis", *(["sandbox"] if self.sandbox else []))
        everything = [*infrastructure, *_CORE, *map(worker_service, self.catalog), *_IN_FRONT_OF_WORKERS]
        wanted: set[str] = set()
        unseen = list(everything if only is None else only)
        while unseen:
            name = unseen.pop()
            wanted.add(name)
            unseen += [need for need in _hard_needs(name) if need not in wanted]
        counts = self.replicas
        return [process for name in everything if name in wanted for process in replicas_of(name, counts.get(name, 1))]

    @property
    def roles(self) -> dict[str, Role]:
        """The providers that the sandbox plays, those for whom the generic worker asks their own server excepted."""
        if not self.sandbox:
            return {}
        return {
            provider: role
            for provider, role in SANDBOX_ROLES.items()
            if provider in self.catalog and self.catalog[provider].worker != GENERIC_WORKER
        }

    @property
    def first_provider(self) -> str:
        """Whom the first chat is with: one the sandbox plays where there is one."""
        return next(each for each in (*self.roles, *SANDBOX_ROLES, *self.catalog) if each in self.catalog)

    def service_module(self, name: str) -> str:
        """Returns the module to run: `services.key_vault`, `services.workers.openai`."""
        provider = provider_of(service_of(name))
        if provider is not None:
            return f"services.workers.{self.catalog[provider].worker}"
        return "services." + service_of(name).replace("-", "_")

    def service_settings(self, name: str, layout: Layout, ports: Mapping[str, int]) -> dict[str, str]:
        """Returns the environment variables of a process: its own, and no other's. Workers are those with a port."""
        values = {
            "LISTEN": address(ports, name),
            "METRICS_LISTEN": address(ports, metrics_of(name)),
            "DATA_DIR": str(layout.data(name)),
        }
        service = service_of(name)
        prefix = "WORKER" if provider_of(service) else service.upper().replace("-", "_")
        values |= self._settings_of_service(service, layout, ports)
        return {f"{prefix}_{key}": value for key, value in values.items()}

    def _settings_of_service(self, name: str, layout: Layout, ports: Mapping[str, int]) -> dict[str, str]:
        provider = provider_of(name)
        values = {
            "TLS_DIR": str(layout.pki / name),
            "REFLECTION": "true",
            "LEAVE_SECONDS": "0.2",
            "DRAIN_SECONDS": "1",
            "REDIS_URL_FILE": str(layout.secrets / "redis-url"),
        }
        if self.otlp is not None:
            values["OTLP_ENDPOINT"] = self.otlp
        if not self.rate_limits:
            unlimited = _NO_LIMITS_OF.get(name, _NO_LIMITS)
            values["RATE_LIMITS"] = ",".join(f"{method}={limit}" for method, limit in unlimited.items())
        role = name.replace("-", "_")
        if role in postgres_bootstrap.ROLES:
            values["DATABASE_URL_FILE"] = str(layout.database_url(role))
        if name != "auth":
            values["AUTH_ADDRESS"] = addresses(ports, "auth")
        if provider or name in ("analytics", "provider-router"):
            values["KEY_VAULT_ADDRESS"] = addresses(ports, "key-vault")
        if provider or name == "provider-router":
            values["ANALYTICS_ADDRESS"] = addresses(ports, "analytics")
        if name == "key-vault":
            values["VAULT_ADDRESS"] = f"https://{address(ports, 'vault')}"
            values["VAULT_CA"] = str(layout.pki / "vault" / "ca.crt")
            values["VAULT_ROLE_ID_FILE"] = str(layout.secrets / "key-vault-role-id")
            values["VAULT_SECRET_ID_FILE"] = str(layout.secrets / "key-vault-secret-id")
        if provider or name == "key-vault":
            # Where the sandbox is, and model servers on this machine.
            values["PRIVATE_ENDPOINTS"] = "127.0.0.1"
        if self.models_file is not None and (provider or name == "provider-router"):
            values["MODELS"] = str(self.models_file)
        if name in ("key-vault", "provider-router"):
            values |= self._catalog_setting()
            workers = {each: worker_service(each) for each in self.catalog if worker_service(each) in ports}
            values["WORKERS"] = ",".join(f"{each}={addresses(ports, worker)}" for each, worker in workers.items())
        if provider:
            values |= self._settings_of_provider(provider, ports)
        return values

    def _settings_of_provider(self, provider: str, ports: Mapping[str, int]) -> dict[str, str]:
        if self.catalog[provider].worker == GENERIC_WORKER:
            return {"PROVIDER": provider, **self._catalog_setting()}
        role = self.roles.get(provider)
        return {"ENDPOINT": f"http://{address(ports, 'sandbox')}{role.mount}"} if role else {}

    def _catalog_setting(self) -> dict[str, str]:
        return {} if self.catalog_file is None else {"CATALOG": str(self.catalog_file)}


def identities(services: Collection[str]) -> tuple[str, ...]:
    """Lists every name a certificate is issued to: these services, and those beside them.

    `operator` is the runner's and people's own, `public` that of the HTTPS listener.
    """
    return (*services, "envoy", "operator", "vault", "public")


def addresses(ports: Mapping[str, int], service: str) -> str:
    """Returns host:port of all replicas of a service, with spaces between."""
    return " ".join(address(ports, name) for name in ports if service_of(name) == service)


def address(ports: Mapping[str, int], name: str) -> str:
    """Returns host:port of a port by its name."""
    return f"127.0.0.1:{ports[name]}"
