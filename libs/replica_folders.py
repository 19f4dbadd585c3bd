"""Folders of replicas that share a volume: each process has one of its own in it, `replica-1`, `replica-2` and so on.

A folder is its process's by a lock, which the kernel lets go of however the process ends. Whoever starts takes the
first that is free, with all that is in it; so a replica finds what it had, wherever its container comes from.
"""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

_FOLDER = re.compile(r"replica-[1-9][0-9]*")
_LOCK = "replica.lock"


class FolderInUse(Exception):
    """Another process has the folder."""


@contextmanager
def claimed(root: Path) -> Iterator[Path]:
    """Takes the first free folder of those below `root`, and keeps it for the time of the block."""
    for number in count(1):
        folder = root / f"replica-{number}"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with ExitStack() as stack:
            try:
                stack.enter_context(held(folder))
            except FolderInUse:
                continue
            yield folder
            return


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps a replica's folder for the time of the block. Raises FolderInUse."""
    with (folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FolderInUse(f"{folder} is in use by another process.") from None
        yield


def replica_of(path: Path) -> Path | None:
    """Returns the folder of the replica that a path lies in, None where replicas share nothing."""
    return next((each for each in (path, *path.parents) if _FOLDER.fullmatch(each.name)), None)


def same_of_others(path: Path) -> list[tuple[Path, Path]]:
    """Lists what is at the same place in the folders of others as `path` is in its own: folder, and path in it."""
    own = replica_of(path)
    if own is None:
        return []
    folders = sorted(each for each in own.parent.iterdir() if _FOLDER.fullmatch(each.name) and each != own)
    paths = [(folder, folder / path.relative_to(own)) for folder in folders]
    return [(folder, other) for folder, other in paths if other.exists()]
