"""Where the platform runs, each place read from its own files: who runs there, as whom, from which image, told what."""

from __future__ import annotations

import base64
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from ruamel.yaml import YAML

from deploy.compose.prepare import Wishes, prepare
from deploy.envoy import render as envoy
from deploy.local.pki import issue
from deploy.local.topology import Layout, Topology, identities, is_service, ports_of, service_of
from libs.rpc.identity import FRONT_DOOR
from tests.architecture.arrows import PROVIDERS, settings_of
from tests.support.compose import Installation, is_job, mounts, read_compose, services
from tests.support.kubernetes import Object, Overlay, environment, mounted

_ADDRESS = re.compile(r"[^:@/=,\s]+:\d+(?=$|[/,\s])")
# What each is called on.
_PORTS = (5100, 4317, 5432, 6379, 8200, 443)


@dataclass(frozen=True)
class Identity:
    """Who a process shows it is: the names in its certificate, and who has signed it."""

    uris: frozenset[str]
    hosts: frozenset[str]
    authority: str


@dataclass(frozen=True)
class Cluster:
    """Where Envoy sends calls for a service, and whom it expects there."""

    addresses: frozenset[str]
    asks_for: str
    expects: frozenset[str]


@dataclass(frozen=True)
class Door:
    """What Envoy is told: its clusters, the clusters its routes lead to, and the folder of its certificate."""

    clusters: Mapping[str, Cluster]
    led_to: frozenset[str]
    folder: str
    collectors: frozenset[str]
    origins: frozenset[str]

    @classmethod
    def read(cls, configuration: str, secrets: Mapping[str, str]) -> Door:
        """Reads the files that Envoy is started with."""
        resources = YAML(typ="safe").load(configuration)["static_resources"]
        public = _connection_manager(resources["listeners"][0])["route_config"]["virtual_hosts"][0]
        (certificate,) = json.loads(secrets["certificate.json"])["resources"]
        (authority,) = json.loads(secrets["authority.json"])["resources"]
        chain = Path(certificate["tls_certificate"]["certificate_chain"]["filename"])
        assert authority["validation_context"]["trusted_ca"]["filename"] == str(chain.parent / "ca.crt")
        clusters = {each["name"]: each for each in resources["clusters"] if each["name"] not in ("admin", "otlp")}
        cross_origin = public["typed_per_filter_config"]["envoy.filters.http.cors"]["allow_origin_string_match"]
        return cls(
            {name: _cluster(each) for name, each in clusters.items()},
            frozenset(route["route"]["cluster"] for route in public["routes"] if "route" in route),
            str(chain.parent),
            frozenset(a for each in resources["clusters"] if each["name"] == "otlp" for a in _addresses(each)),
            frozenset(each["exact"] for each in cross_origin or ()),
        )


class Place(ABC):
    """One way to run the platform."""

    name: str
    # Whether its networks tell caller from called.
    directed = True
    # Whether calls are traced there.
    traced = True
    # What Envoy is told, None where only a start tells.
    door: Door | None = None

    @abstractmethod
    def services(self) -> frozenset[str]:
        """Lists the platform's own services that run there."""

    @abstractmethod
    def environment(self, service: str) -> Mapping[str, str]:
        """Returns the variables of a service."""

    @abstractmethod
    def certificate(self, name: str, folder: str) -> Identity:
        """Returns who the certificate speaks for that a service, or Envoy, finds in a folder."""

    def file(self, service: str, path: str) -> str | None:
        """Returns what is in a file that a service is told, None where that is not in the repository."""
        return None

    def image(self, service: str) -> str | None:
        """Returns the name of the image of a service, without registry and tag; None where there are no images."""
        return None

    def lets(self, caller: str, called: str) -> bool | None:
        """Tells whether a connection gets through, None where nothing is in between."""
        return None

    def found_at(self, address: str) -> tuple[str, int]:
        """Returns who is found at host:port, and at which of its ports."""
        host, _, port = address.rpartition(":")
        # The name of one who is elsewhere goes on with a domain.
        return host.partition(".")[0], int(port)

    def settings(self, service: str) -> dict[str, str]:
        """Returns the settings of a service without the prefix of their names."""
        prefix, _ = settings_of(service)
        given = self.environment(service).items()
        return {name.removeprefix(f"{prefix}_"): value for name, value in given if name.startswith(f"{prefix}_")}

    def leads(self, service: str, setting: str) -> frozenset[tuple[str, int]] | None:
        """Returns who is found where a setting leads: nobody without it, None where that is not in the repository."""
        told = self.settings(service)
        text: str | None = told.get(setting, "")
        if f"{setting}_FILE" in told:
            text = self.file(service, told[f"{setting}_FILE"])
        return None if text is None else frozenset(map(self.found_at, _ADDRESS.findall(text)))

    def identity(self, name: str) -> Identity:
        """Returns who a service, or Envoy, shows it is."""
        folder = self.door.folder if name == FRONT_DOOR and self.door else self.settings(name)["TLS_DIR"]
        return self.certificate(name, folder)


class LocalRun(Place):
    """`make run`: processes of one machine, which no network keeps apart."""

    name = "local run"
    traced = False

    def __init__(self, folder: Path) -> None:
        self._topology = Topology.of(None, sandbox=True)
        self._layout = Layout(folder)
        names = [port for process in self._topology.processes() for port in ports_of(process)]
        self._ports = {name: number for number, name in enumerate(names, start=1)}
        issue(self._layout.pki, identities(sorted(self.services())))

    def services(self) -> frozenset[str]:
        return frozenset(name for name in self._topology.processes() if is_service(name))

    def environment(self, service: str) -> Mapping[str, str]:
        return self._topology.service_settings(service, self._layout, self._ports)

    def certificate(self, name: str, folder: str) -> Identity:
        return _shown(Path(folder))

    def identity(self, name: str) -> Identity:
        return _shown(self._layout.pki / name) if name == FRONT_DOOR else super().identity(name)

    def found_at(self, address: str) -> tuple[str, int]:
        port = int(address.rpartition(":")[2])
        return next(service_of(name) for name, number in self._ports.items() if number == port), port

    def folder(self, service: str) -> str:
        """Returns the folder below `services` of the program that is started."""
        return self._topology.service_module(service).removeprefix("services.").replace(".", "/")


class Compose(Place):
    """docker-compose.yml, with the files that its job `prepare` makes."""

    name = "compose"
    directed = False

    def __init__(self, folder: Path) -> None:
        # As where people come from web pages of others.
        self._installation = Installation(folder, read_compose({"ALLOWED_ORIGINS": "https://app.example.com"}))
        self._all = services(self._installation.compose)
        told = dict(each.removeprefix("--").split("=", 1) for each in self._all["prepare"]["command"][1:])
        (folder / "descriptors.pb").touch()
        wishes = Wishes(allowed_origins=[told["allowed-origins"]])
        prepare(folder / "files", wishes, descriptor_set=folder / "descriptors.pb")
        configuration = Path(self._all["envoy"]["command"][1])
        secrets = {
            path.name: path.read_text() for path in self._here("envoy", str(configuration.parent)).glob("*.json")
        }
        self.door = Door.read(self._here("envoy", str(configuration)).read_text(), secrets)

    def services(self) -> frozenset[str]:
        ours = (name for name, each in self._all.items() if "realmultillm/" in each["image"] and not is_job(each))
        return frozenset(ours)

    def environment(self, service: str) -> Mapping[str, str]:
        return {name: str(value) for name, value in self._all[service]["environment"].items()}

    def certificate(self, name: str, folder: str) -> Identity:
        return _shown(self._here(name, folder))

    def file(self, service: str, path: str) -> str | None:
        return self._here(service, path).read_text()

    def image(self, service: str) -> str | None:
        return _name_of_image(self._all[service]["image"])

    def lets(self, caller: str, called: str) -> bool | None:
        if PROVIDERS in (caller, called):
            return PROVIDERS in self._all[caller]["networks"]
        # On the way to the providers nobody sees anybody.
        return bool({*self._all[caller]["networks"]} & {*self._all[called]["networks"]} - {PROVIDERS})

    def _here(self, service: str, path: str) -> Path:
        assert any(Path(path).is_relative_to(each) for each in mounts(self._all[service])), path
        return Path(self._installation.on_this_machine(service, path))


class Kubernetes(Place):
    """An overlay of deploy/kubernetes."""

    def __init__(self, overlay: str) -> None:
        self.name = f"kubernetes, {overlay}"
        self.traced = overlay == "production"
        self._overlay = Overlay(overlay)
        self._pods = self._overlay.pods()
        self._peers = {peer.name: peer for peer in (*self._overlay.outsiders(), *self._overlay.insiders())}
        self._policies = self._overlay.policies()
        config = envoy.EnvoyConfig.from_json(self._overlay.envoy_json())
        self.door = Door.read(envoy.render(config, Path("/etc/envoy")), envoy.secrets(config))

    def services(self) -> frozenset[str]:
        names = self._overlay.of_kind("StatefulSet", "Deployment")
        return frozenset(name for name in names if "realmultillm/" in self._container(name)["image"]) - {"sandbox"}

    def environment(self, service: str) -> Mapping[str, str]:
        return dict(environment(self._container(service), self._overlay.of_kind("ConfigMap")))

    def certificate(self, name: str, folder: str) -> Identity:
        volume, rest = mounted(self._pods[name], self._container(name), folder)
        assert rest == ".", folder
        all_specs = (each["spec"] for each in self._overlay.of_kind("Certificate").values())
        (spec,) = (spec for spec in all_specs if spec["secretName"] == volume["secret"]["secretName"])
        return Identity(frozenset(spec["uris"]), frozenset(spec["dnsNames"]), spec["issuerRef"]["name"])

    def file(self, service: str, path: str) -> str | None:
        volume, key = mounted(self._pods[service], self._container(service), path)
        secret = self._overlay.of_kind("Secret").get(volume["secret"]["secretName"])
        return None if secret is None else base64.b64decode(secret["data"][key]).decode()

    def image(self, service: str) -> str | None:
        return _name_of_image(self._container(service)["image"])

    def lets(self, caller: str, called: str) -> bool | None:
        return any(self._policies.lets(self._peers[caller], self._peers[called], port) for port in _PORTS)

    def _container(self, name: str) -> Object:
        (container,) = self._pods[name]["spec"]["containers"]
        return container  # type: ignore[no-any-return]


def _shown(folder: Path) -> Identity:
    certificate = x509.load_pem_x509_certificate((folder / "tls.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    certificate.verify_directly_issued_by(authority)
    return Identity(
        frozenset(names.get_values_for_type(x509.UniformResourceIdentifier)),
        frozenset(names.get_values_for_type(x509.DNSName)),
        str(authority.serial_number),
    )


def _name_of_image(image: str) -> str:
    return image.rpartition(":")[0].rpartition("realmultillm/")[2]


def _connection_manager(listener: Mapping[str, Any]) -> Any:
    return listener["filter_chains"][0]["filters"][0]["typed_config"]


def _cluster(cluster: Mapping[str, Any]) -> Cluster:
    tls = cluster["transport_socket"]["typed_config"]
    context = tls["common_tls_context"]["combined_validation_context"]["default_validation_context"]
    matchers = context["match_typed_subject_alt_names"]
    assert all(each["san_type"] == "URI" for each in matchers)
    return Cluster(_addresses(cluster), tls["sni"], frozenset(each["matcher"]["exact"] for each in matchers))


def _addresses(cluster: Mapping[str, Any]) -> frozenset[str]:
    sockets = (
        endpoint["endpoint"]["address"]["socket_address"]
        for locality in cluster["load_assignment"]["endpoints"]
        for endpoint in locality["lb_endpoints"]
    )
    return frozenset(f"{each['address']}:{each['port_value']}" for each in sockets)
