"""Puts files where one service alone finds them: into a volume of its own, as its own user, for nobody else to read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

# The platform's own images, and the jobs.
PLATFORM = 10001
# Those of the images of others; docker-compose.yml runs each as this user.
_USERS = {"envoy": 101, "vault": 100, "postgres": 999, "redis": 999, "prometheus": 65534, "grafana": 472}


def user_of(service: str) -> int:
    """Returns the id of the user that a service runs as."""
    return _USERS.get(service, PLATFORM)


class Delivery:
    """The volumes of the services, each a folder of its service's name below `folder`.

    What is there already and the same is left alone, so that who watches a file sees real changes only.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.changed: list[str] = []

    def write(self, service: str, name: str, content: str | bytes) -> None:
        """Writes a file of a service, whole or not at all."""
        content = content.encode() if isinstance(content, str) else content
        user = user_of(service)
        path = self._folder / service / name
        for folder in reversed([path.parent, *path.parent.parents]):
            if folder.is_relative_to(self._folder / service):
                folder.mkdir(parents=True, exist_ok=True)
                give(folder, user, mode=0o700)
        if path.exists() and path.read_bytes() == content:
            give(path, user, mode=0o400)
            return
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        # It is the service's before it has its name: a service that looks at that moment can read it.
        give(Path(temporary), user, mode=0o400)
        Path(temporary).replace(path)
        self.changed.append(f"{service}/{name}")


def give(path: Path, user: int, *, mode: int) -> None:
    """Sets owner and mode. Only root can give files away; run as somebody else, all of them stay theirs."""
    path.chmod(mode)
    if os.geteuid() == 0 and path.stat().st_uid != user:
        os.chown(path, user, user)
