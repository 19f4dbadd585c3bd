"""The version of the platform; pyproject.toml is its one source."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

_PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def platform_version() -> str:
    """Reads the version from the checkout, or from the installed distribution where there is none."""
    if _PROJECT.exists():
        return str(tomllib.loads(_PROJECT.read_text())["project"]["version"])
    return importlib.metadata.version("realmultillm")
