"""What the local stack consists of: which process needs which, and the settings each of them gets.

A further worker is one more row in WORKERS.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.postgres import bootstrap as postgres_bootstrap

# Providers with a worker, and where the sandbox speaks their dialect. `worker-<provider>` runs
# `services.workers.<provider>`. The first one answers the first chat.
WORKERS = {"openai": "/openai/v1"}

SERVICES = ("auth", "key-vault", "analytics", *(f"worker-{provider}" for provider in WORKERS), "provider-router")

# Every name a certificate is issued to. `operator` is the runner's and people's own, `public` that of the
# HTTPS listener.
IDENTITIES = (*SERVICES, "envoy", "operator", "vault", "public")

# Processes that must be ready before one starts. A service that keeps a stream open to another waits for it: it
# would recover by itself, but only after a pause in which the first calls fail.
_WATCHED = ("auth", "key-vault", "analytics")
NEEDS: Mapping[str, tuple[str, ...]] = {
    "postgres": (),
    "vault": (),
    "redis": (),
    "sandbox": (),
    "auth": ("postgres",),
    "key-vault": ("postgres", "vault", "auth"),
    "analytics": ("postgres", "auth"),
    **{f"worker-{provider}": (*_WATCHED, "sandbox") for provider in WORKERS},
    "provider-router": (*_WATCHED, *(f"worker-{provider}" for provider in WORKERS)),
    "envoy": SERVICES,
}

# Ports each process listens on, besides the public ones.
_PORTS = {"vault": ("vault", "vault-cluster"), "envoy": ("envoy-admin",)}


def ports_of(name: str) -> tuple[str, ...]:
    """Returns the names of the ports of a process."""
    return _PORTS.get(name, (name,))


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

    def database_url(self, role: str) -> Path:
        """File with the URL a service connects to the database with."""
        return self.secrets / f"database-url-{role}"


def service_settings(name: str, layout: Layout, ports: Mapping[str, int], *, sandbox: bool) -> dict[str, str]:
    """Returns the environment variables of a service: its own, and no other's."""
    prefix = "WORKER" if name.startswith("worker-") else name.upper().replace("-", "_")
    workers = ",".join(f"{provider}={address(ports, f'worker-{provider}')}" for provider in WORKERS)
    values = {
        "LISTEN": address(ports, name),
        "TLS_DIR": str(layout.pki / name),
        "REFLECTION": "true",
        "DRAIN_SECONDS": "1",
    }
    role = name.replace("-", "_")
    if role in postgres_bootstrap.ROLES:
        values["DATABASE_URL_FILE"] = str(layout.database_url(role))
    if name != "auth":
        values["AUTH_ADDRESS"] = address(ports, "auth")
    if name.startswith("worker-") or name == "provider-router":
        values["KEY_VAULT_ADDRESS"] = address(ports, "key-vault")
        values["ANALYTICS_ADDRESS"] = address(ports, "analytics")
    if name == "key-vault":
        values["VAULT_ADDRESS"] = f"https://{address(ports, 'vault')}"
        values["VAULT_CA"] = str(layout.pki / "vault" / "ca.crt")
        values["VAULT_ROLE_ID_FILE"] = str(layout.secrets / "key-vault-role-id")
        values["VAULT_SECRET_ID_FILE"] = str(layout.secrets / "key-vault-secret-id")
    if name in ("key-vault", "provider-router"):
        values["WORKERS"] = workers
    if name.startswith("worker-"):
        values["DATA_DIR"] = str(layout.data(name))
        if sandbox:
            endpoint = WORKERS[name.removeprefix("worker-")]
            values["ENDPOINT"] = f"http://{address(ports, 'sandbox')}{endpoint}"
    return {f"{prefix}_{key}": value for key, value in values.items()}


def service_module(name: str) -> str:
    """Returns the module to run: `services.key_vault`, `services.workers.openai`."""
    if name.startswith("worker-"):
        return "services.workers." + name.removeprefix("worker-").replace("-", "_")
    return "services." + name.replace("-", "_")


def address(ports: Mapping[str, int], name: str) -> str:
    """Returns host:port of a port by its name."""
    return f"127.0.0.1:{ports[name]}"
