"""Files only their owner may read, written whole or not at all."""

import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path


def private_folder(path: Path) -> Path:
    """Creates a folder with mode 0700, or sets that mode on an existing one."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def write_private(path: Path, content: str | bytes) -> Path:
    """Replaces a file atomically by one with mode 0600."""
    private_folder(path.parent)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    Path(temporary).replace(path)
    return path


def keep_secret(path: Path, make: Callable[[], str] = lambda: secrets.token_urlsafe(24)) -> str:
    """Returns the secret in a file, made and stored on first use."""
    if not path.exists():
        write_private(path, make())
    path.chmod(0o600)
    return path.read_text()
