"""docker-compose.yml as Compose reads it, and the files of its services as the job `prepare` really writes them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from deploy.envoy import descriptors

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
SANDBOX_FILE = ROOT / "deploy" / "compose" / "sandbox.yml"

_VARIABLE = re.compile(r"\$\$|\$\{([A-Z_]+):-([^}]*)}")
_JOB_SECONDS = 120


def read_compose(variables: Mapping[str, str] | None = None, *, file: Path = FILE) -> dict[str, Any]:
    """Returns the file with its variables replaced, by their defaults where none are given."""
    given = variables or {}

    def value_of(found: re.Match[str]) -> str:
        return "$" if found[1] is None else given.get(found[1]) or found[2]

    content: dict[str, Any] = YAML(typ="safe").load(_VARIABLE.sub(value_of, file.read_text()))
    return content


def services(compose: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns all services by name, jobs among them."""
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


def is_job(service: Mapping[str, Any]) -> bool:
    """Tells whether a service is one that ends."""
    return bool(service["restart"] == "no")


def mounts(service: Mapping[str, Any]) -> dict[str, str]:
    """Returns what is mounted into a service, by the path it has there; empty for a volume without a name."""
    found = {}
    for line in service.get("volumes", ()):
        source, separator, rest = line.partition(":")
        found[rest.removesuffix(":ro") if separator else source] = source if separator else ""
    return found


@dataclass(frozen=True)
class Installation:
    """Volumes as folders of this machine, below `folder`."""

    folder: Path
    compose: Mapping[str, Any]

    @classmethod
    def prepared(cls, folder: Path, compose: Mapping[str, Any]) -> Installation:
        """Runs the job `prepare` on empty volumes."""
        folder.mkdir(parents=True, exist_ok=True)
        installation = cls(folder, compose)
        descriptors.build(folder / "descriptors.pb")
        installation.prepare()
        return installation

    def prepare(self) -> str:
        """Runs the job `prepare`, and returns what it says."""
        # The folders in which its volumes are mounted are no volumes themselves.
        folders = {f"=/{name}": f"={self.folder / name}" for name in ("files", "data")}
        (self.folder / "data").mkdir(exist_ok=True)
        return self.run("prepare", f"--descriptors={self.folder / 'descriptors.pb'}", instead=folders)

    def run(self, job: str, *further: str, instead: Mapping[str, str] | None = None) -> str:
        """Runs a job by its own command line, on the files that its container has; returns what it says.

        `instead` are texts that stand in for others on the command line.
        """
        service = services(self.compose)[job]
        arguments = [self.on_this_machine(job, argument) for argument in service["command"]]
        for text, other in (instead or {}).items():
            arguments = [argument.replace(text, other) for argument in arguments]
        ended = subprocess.run(
            [sys.executable, "-m", *arguments, *further],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **self.environment(job)},
            capture_output=True,
            text=True,
            timeout=_JOB_SECONDS,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def environment(self, name: str) -> dict[str, str]:
        """Returns the variables of a service, with paths as they are on this machine."""
        variables: Mapping[str, str] = services(self.compose)[name].get("environment", {})
        return {variable: self.on_this_machine(name, str(value)) for variable, value in variables.items()}

    def on_this_machine(self, name: str, text: str) -> str:
        """Replaces the paths of a container in a text by those of the same files on this machine."""
        inside = mounts(services(self.compose)[name])
        for path in sorted(inside, key=len, reverse=True):
            text = re.sub(rf"(?<![\w.-]){re.escape(path)}(?![\w.-])", str(self.path_of(name, path)), text)
        return text

    def path_of(self, name: str, mounted_at: str) -> Path:
        """Returns the folder of a volume: all mount points of the job that makes them lie in its one root."""
        volume = mounts(services(self.compose)[name])[mounted_at]
        as_prepared = {source: path for path, source in mounts(services(self.compose)["prepare"]).items() if source}
        if not volume or volume not in as_prepared:
            return self.folder / "replicas" / name / mounted_at.strip("/")
        return self.folder / as_prepared[volume].lstrip("/")

    def files(self, name: str) -> Iterator[Path]:
        """Lists the files that were prepared for a service."""
        return (path for path in (self.folder / "files" / name).rglob("*") if path.is_file())
