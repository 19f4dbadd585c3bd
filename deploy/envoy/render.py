"""Renders the configuration of Envoy, for a local run and for production alike.

`python -m deploy.envoy.render --config envoy.json --to /etc/envoy`; the JSON holds the fields of EnvoyConfig. Written
are `envoy.yaml` and a file for each secret that it names: only where a secret says in which file it is, Envoy reads a
certificate anew when it is renewed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from deploy.envoy.cross_origin import ALLOWED_HEADERS, EXPOSED_HEADERS
from deploy.envoy.local_replies import LOCAL_REPLIES, MAX_BODY_MIB, MAX_HEADERS_KIB
from deploy.envoy.routes import IGNORED_PARAMETERS, PUBLIC_SERVICES, routes
from libs.providers import provider_of
from libs.rpc.identity import TRUST_DOMAIN

_SERVICES = frozenset(PUBLIC_SERVICES.values())
_ADDRESS = re.compile(r"(?:\[([0-9a-fA-F:]+)]|([A-Za-z0-9._-]+)):([0-9]{1,5})")
_COLLECTOR = re.compile(r"(https?)://(?:\[([0-9a-fA-F:]+)]|([A-Za-z0-9._-]+)):([0-9]{1,5})")
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?")


@dataclass(frozen=True, kw_only=True)
class EnvoyConfig:
    """What differs between one place Envoy runs at and another.

    `tls_dir` holds the client certificate shown to the services, `public_tls_dir` the server certificate of the HTTPS
    listener. `clusters` gives the host:port list of each service and each worker; names are resolved to all their
    addresses. `trusted_hops` counts the proxies in front whose `x-forwarded-for` is believed. Times are in seconds:
    services end their own calls after 25 at most, so `request_seconds` must be more; for a chat `chat_seconds` limits
    the whole, and `chat_idle_seconds` the silence, which for a call that is not streamed is the whole as well. What
    Envoy counts is served to Prometheus on `metrics_port`, in the clear and to everyone; without, it is not. Traces
    go to the collector at `otlp_endpoint`, http://host:port or https://host:port with a certificate of an authority in
    `otlp_ca`; of all calls `trace_ratio` of them, between 0 and 1, are traced here and in every service.

    Of the requests from one address `flood_per_second` are passed on, and `flood_burst` at once; more are refused
    before anything of theirs is read. Many people may share an address, so that is far above what one may do, whom
    the services count. Each Envoy counts for itself. `max_heap_mib` is the memory Envoy may take before it lets go
    of idle connections and then refuses requests: three quarters of what its container has, for example; None is no
    limit.
    """

    http_port: int
    https_port: int
    admin_port: int
    tls_dir: Path
    public_tls_dir: Path
    descriptor_set: Path
    clusters: Mapping[str, Sequence[str]]
    access_log: Path = Path("/dev/stdout")
    allowed_origins: Sequence[str] = ()
    bind_address: str = "127.0.0.1"
    trusted_hops: int = 0
    max_connections: int = 10_000
    request_seconds: int = 30
    chat_seconds: int = 600
    chat_idle_seconds: int = 310
    metrics_port: int | None = None
    otlp_endpoint: str | None = None
    otlp_ca: Path = Path("/etc/ssl/certs/ca-certificates.crt")
    trace_ratio: float = 1.0
    flood_per_second: int = 500
    flood_burst: int = 2_000
    max_heap_mib: int | None = None

    @classmethod
    def from_json(cls, text: str) -> EnvoyConfig:
        """Reads a configuration. Raises ValueError or TypeError when it is not one."""
        values = json.loads(text)
        paths = ("tls_dir", "public_tls_dir", "descriptor_set", "access_log", "otlp_ca")
        return cls(**values | {name: Path(values[name]) for name in paths if name in values})


def write_configuration(config: EnvoyConfig, folder: Path) -> Path:
    """Writes all files of the configuration into a folder, and returns the one Envoy is started with.

    Raises ValueError when it would not work or not be safe.
    """
    configuration = folder / "envoy.yaml"
    for name, content in {**secrets(config), configuration.name: render(config, folder)}.items():
        (folder / name).write_text(content)
    return configuration


def secrets(config: EnvoyConfig) -> dict[str, str]:
    """Returns the files with Envoy's secrets, in which only the names of others stand."""
    return {
        "public-certificate.json": _secret("public", tls_certificate=_certificate(config.public_tls_dir)),
        "certificate.json": _secret("platform", tls_certificate=_certificate(config.tls_dir)),
        "authority.json": _secret(
            "authority",
            validation_context={
                "trusted_ca": {"filename": str(config.tls_dir / "ca.crt")},
                "watched_directory": {"path": str(config.tls_dir)},
            },
        ),
    }


def _certificate(folder: Path) -> dict[str, object]:
    return {
        "certificate_chain": {"filename": str(folder / "tls.crt")},
        "private_key": {"filename": str(folder / "tls.key")},
        "watched_directory": {"path": str(folder)},
    }


def _secret(name: str, **content: object) -> str:
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
    return json.dumps({"resources": [{"@type": kind, "name": name, **content}]}, indent=2) + "\n"


def render(config: EnvoyConfig, folder: Path) -> str:
    """Returns the configuration as YAML, for secrets in files of `folder`.

    Raises ValueError when it would not work or not be safe.
    """
    _check(config)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        # Every value is written as JSON, which is YAML: none can break out of its place.
        finalize=lambda value: Markup(json.dumps(value, default=str)),  # noqa: S704 - for YAML, where JSON is safe
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("envoy.yaml.j2").render(
        config=config,
        folder=folder,
        listeners=(("http", config.http_port), ("https", config.https_port)),
        routes=routes([provider for provider in map(provider_of, config.clusters) if provider]),
        endpoints={name: [_endpoint(address) for address in hosts] for name, hosts in config.clusters.items()},
        tracing=None if config.otlp_endpoint is None else _collector(config.otlp_endpoint),
        public_services=list(PUBLIC_SERVICES),
        local_replies=LOCAL_REPLIES,
        error_bodies=(Path(__file__).parent / "error_bodies.lua").read_text(),
        max_body_bytes=MAX_BODY_MIB * 1024 * 1024,
        max_headers_kib=MAX_HEADERS_KIB,
        trust_domain=TRUST_DOMAIN,
        allowed_headers=ALLOWED_HEADERS,
        exposed_headers=EXPOSED_HEADERS,
        ignored_parameters=list(IGNORED_PARAMETERS),
    )


def _check(config: EnvoyConfig) -> None:
    missing = _SERVICES - config.clusters.keys()
    unknown = {name for name in config.clusters.keys() - _SERVICES if provider_of(name) is None}
    problems = [f"clusters: {name} is missing" for name in sorted(missing)]
    problems += [f"clusters: {name} is not a service people may reach" for name in sorted(unknown)]
    problems += [f"clusters: {name} has no address" for name, hosts in config.clusters.items() if not hosts]
    problems += [
        f"clusters: {address} is not host:port"
        for hosts in config.clusters.values()
        for address in hosts
        if not _ADDRESS.fullmatch(address)
    ]
    problems += [
        f"allowed_origins: {origin} is not an origin like https://app.example.com"
        for origin in config.allowed_origins
        if not _ORIGIN.fullmatch(origin)
    ]
    if config.otlp_endpoint is not None and not _COLLECTOR.fullmatch(config.otlp_endpoint):
        problems.append(f"otlp_endpoint: {config.otlp_endpoint} is not http://host:port or https://host:port")
    if not 0 <= config.trace_ratio <= 1:
        problems.append(f"trace_ratio: {config.trace_ratio} is not between 0 and 1")
    problems += [
        f"{name}: must be at least 1"
        for name in ("flood_per_second", "flood_burst", "max_heap_mib")
        if (value := getattr(config, name)) is not None and value < 1
    ]
    if problems:
        raise ValueError("\n".join(problems))


def _endpoint(address: str) -> tuple[str, int]:
    match = _ADDRESS.fullmatch(address)
    assert match is not None, "checked before"
    return match[1] or match[2], int(match[3])


def _collector(endpoint: str) -> dict[str, str | int | bool]:
    match = _COLLECTOR.fullmatch(endpoint)
    assert match is not None, "checked before"
    return {"host": match[2] or match[3], "port": int(match[4]), "secure": match[1] == "https"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON file with the fields of EnvoyConfig")
    parser.add_argument("--to", type=Path, required=True, help="folder for envoy.yaml and what it names")
    given = parser.parse_args()
    try:
        write_configuration(EnvoyConfig.from_json(given.config.read_text()), given.to)
    except (OSError, TypeError, ValueError) as error:
        sys.exit(f"The configuration of Envoy is not usable: {error}")


if __name__ == "__main__":
    main()
