"""Makes what the services of docker-compose.yml find at their start: certificates, passwords and configurations.

`python -m deploy.compose.prepare --files /files --data /data`. Everything is made once and kept in `/files/prepare`,
which no service sees; into `/files/<service>` goes a copy of what is that service's. Safe to repeat: only certificates
near their end, and what follows from other arguments, change.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.compose.delivery import Delivery, give, user_of
from deploy.envoy import render as envoy
from deploy.local.pki import issue
from deploy.local.private_files import keep_secret, private_folder
from deploy.postgres.bootstrap import DATABASE, LOGINS, ROLES
from deploy.prometheus import render as prometheus
from libs.database_roles import owner_of
from libs.provider_catalog import load_catalog
from libs.providers import worker_service

# Where a service finds its volume.
MOUNTED_AT = Path("/etc/realmultillm")
GRPC_PORT = 5100
METRICS_PORT = 9100
_HTTP_PORT, _HTTPS_PORT, _ENVOY_ADMIN_PORT = 8080, 8443, 9901
_VAULT_PORT, _VAULT_CLUSTER_PORT = 8200, 8201
_COLLECTOR = "otel-collector"
# Three quarters of what docker-compose.yml lets Envoy have.
_ENVOY_HEAP_MIB = 768
# Half of what it lets Redis have: what it sends is not counted in.
_REDIS_MEMORY = "256mb"

CORE = ("auth", "key-vault", "analytics", "provider-router")
# Whose files are no volume but data that they keep; the folder must be theirs.
DATA = ("postgres", "vault", "prometheus", "grafana", "vault-operator", "key-vault-login")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What differs between one installation and another.

    `public_hosts` are the names that people reach Envoy by. `public_tls` is a folder with the certificate of a public
    authority, `tls.crt` and `tls.key`; while there is none, the installation's own authority issues one.
    """

    public_hosts: Sequence[str] = ()
    public_tls: Path | None = None
    allowed_origins: Sequence[str] = ()
    runbooks: str = "docs/runbooks.md"
    workers: Sequence[str] = field(default_factory=lambda: [worker_service(provider) for provider in load_catalog()])

    @property
    def services(self) -> tuple[str, ...]:
        """The platform's own services."""
        return (*CORE, *self.workers)


def prepare(files: Path, wishes: Wishes, *, descriptor_set: Path) -> list[str]:
    """Makes sure that every service's volume holds what it shall; returns the files that have changed. Blocking."""
    kept = private_folder(files / "prepare")
    delivery = Delivery(files)
    _certificates(delivery, kept / "pki", wishes)
    _passwords(delivery, kept / "secrets", wishes)
    _vault(delivery, kept / "secrets")
    _envoy(delivery, wishes, descriptor_set)
    _prometheus(delivery, wishes)
    return delivery.changed


def _certificates(delivery: Delivery, pki: Path, wishes: Wishes) -> None:
    names = (*wishes.services, "envoy", "vault", "public")
    issue(pki, names, hosts={"public": wishes.public_hosts})
    # The certificate last: who sees a new one finds its key.
    parts = ("tls.key", "ca.crt", "tls.crt")
    for name in (*wishes.services, "envoy", "vault"):
        for part in parts:
            delivery.write(name, f"tls/{part}", (pki / name / part).read_bytes())
    for part in parts:
        delivery.write("envoy", f"public-tls/{part}", _public_part(pki, part, wishes))
    delivery.write("vault-bootstrap", "ca.crt", (pki / "vault" / "ca.crt").read_bytes())


def _public_part(pki: Path, part: str, wishes: Wishes) -> bytes:
    theirs = wishes.public_tls
    if theirs is not None and part != "ca.crt" and (theirs / "tls.crt").exists():
        return (theirs / part).read_bytes()
    return (pki / "public" / part).read_bytes()


def _passwords(delivery: Delivery, kept: Path, wishes: Wishes) -> None:
    admin = keep_secret(kept / "postgres-password")
    delivery.write("postgres", "password", admin)
    delivery.write("postgres-bootstrap", "admin-url", f"postgresql://postgres:{admin}@postgres:5432/postgres")
    for login in LOGINS:
        password = keep_secret(kept / f"postgres-password-{login}")
        delivery.write("postgres-bootstrap", f"passwords/{login}", password)
    for role in ROLES:
        service = role.replace("_", "-")
        for reader, login in ((service, role), (f"migrate-{service}", owner_of(role))):
            password = keep_secret(kept / f"postgres-password-{login}")
            url = f"postgresql+psycopg://{login}:{password}@postgres:5432/{DATABASE}"
            delivery.write(reader, "database-url", url)

    redis = keep_secret(kept / "redis-password")
    delivery.write("redis", "password", redis)
    delivery.write("redis", "redis.conf", _redis_configuration(redis))
    for service in wishes.services:
        delivery.write(service, "redis-url", f"redis://:{redis}@redis:6379/0")
    delivery.write("grafana", "admin-password", keep_secret(kept / "grafana-password"))


def _redis_configuration(password: str) -> str:
    directives = {
        "requirepass": password,
        # Counters of limits, which may be lost, but not one by one: a limit that is forgotten is no limit.
        "save": '""',
        "appendonly": "no",
        "maxmemory": _REDIS_MEMORY,
        "maxmemory-policy": "noeviction",
        "dir": "/tmp",  # noqa: S108 - of the container, which has nothing else to write to
    }
    return "".join(f"{name} {value}\n" for name, value in directives.items())


def _vault(delivery: Delivery, kept: Path) -> None:
    # In hexadecimal: the server trims white space, which raw bytes may begin or end with.
    delivery.write("vault", "seal-key", keep_secret(kept / "vault-seal-key", lambda: secrets.token_hex(32)))
    configuration = {
        # Of one server alone: it need not be slow to believe that there is no other.
        "storage": {"raft": {"path": "/openbao/file", "node_id": "compose", "performance_multiplier": 1}},
        "listener": {
            "tcp": {
                "address": f"0.0.0.0:{_VAULT_PORT}",
                "cluster_address": f"0.0.0.0:{_VAULT_CLUSTER_PORT}",
                "tls_cert_file": str(MOUNTED_AT / "tls" / "tls.crt"),
                "tls_key_file": str(MOUNTED_AT / "tls" / "tls.key"),
                "tls_min_version": "tls13",
            }
        },
        "seal": {"static": {"current_key_id": "compose-1", "current_key": f"file://{MOUNTED_AT / 'seal-key'}"}},
        "api_addr": f"https://vault:{_VAULT_PORT}",
        "cluster_addr": f"https://vault:{_VAULT_CLUSTER_PORT}",
        "telemetry": {"disable_hostname": True, "usage_gauge_period": "0s"},
    }
    delivery.write("vault", "vault.hcl.json", json.dumps(configuration, indent=2) + "\n")


def _envoy(delivery: Delivery, wishes: Wishes, descriptor_set: Path) -> None:
    config = envoy.EnvoyConfig(
        bind_address="0.0.0.0",  # noqa: S104 - of the container; docker-compose.yml says what of it is public
        http_port=_HTTP_PORT,
        https_port=_HTTPS_PORT,
        admin_port=_ENVOY_ADMIN_PORT,
        metrics_port=METRICS_PORT,
        tls_dir=MOUNTED_AT / "tls",
        public_tls_dir=MOUNTED_AT / "public-tls",
        descriptor_set=MOUNTED_AT / "descriptors.pb",
        clusters={name: [f"{name}:{GRPC_PORT}"] for name in wishes.services},
        allowed_origins=wishes.allowed_origins,
        otlp_endpoint=f"http://{_COLLECTOR}:4317",
        max_heap_mib=_ENVOY_HEAP_MIB,
    )
    delivery.write("envoy", "descriptors.pb", descriptor_set.read_bytes())
    for name, content in envoy.secrets(config).items():
        delivery.write("envoy", name, content)
    delivery.write("envoy", "envoy.yaml", envoy.render(config, MOUNTED_AT))


def _prometheus(delivery: Delivery, wishes: Wishes) -> None:
    targets = {name: [f"{name}:{METRICS_PORT}"] for name in (*wishes.services, "envoy")}
    alerts = MOUNTED_AT / "alerts.yml"
    delivery.write("prometheus", "alerts.yml", prometheus.ALERTS.read_bytes())
    delivery.write("prometheus", "prometheus.yml", prometheus.render(targets, alerts=alerts, runbooks=wishes.runbooks))


def main() -> None:
    """Prepares what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", required=True, type=Path, help="folder with the volume of each service")
    parser.add_argument("--data", type=Path, help="folder with the volumes that services write to")
    parser.add_argument("--public-hosts", default="", help="names that people reach the platform by, host,…")
    parser.add_argument(
        "--public-tls", type=Path, help="folder that may hold tls.crt and tls.key of a public authority"
    )
    parser.add_argument("--allowed-origins", default="", help="origins of web pages that may call, https://host,…")
    parser.add_argument("--runbooks", default="docs/runbooks.md", help="URL at which docs/runbooks.md can be read")
    parser.add_argument(
        "--descriptors", type=Path, default=Path(envoy.__file__).with_name("descriptors.pb"), help="for Envoy"
    )
    arguments = parser.parse_args()
    wishes = Wishes(
        public_hosts=_listed(arguments.public_hosts),
        public_tls=arguments.public_tls,
        allowed_origins=_listed(arguments.allowed_origins),
        runbooks=arguments.runbooks,
    )
    try:
        for service in DATA if arguments.data else ():
            folder = arguments.data / service
            folder.mkdir(exist_ok=True)
            give(folder, user_of(service), mode=0o700)
        changed = prepare(arguments.files, wishes, descriptor_set=arguments.descriptors)
    except (OSError, ValueError) as error:
        sys.exit(f"The services could not be prepared: {error}")
    print("\n".join(f"new: {name}" for name in changed) or "Everything is there already.")


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


if __name__ == "__main__":
    main()
