"""Writes `.env.example` from the settings every service declares: `python -m deploy.settings_reference [--check]`."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from libs.settings import variables
from libs.worker import settings as worker
from services.analytics import settings as analytics
from services.auth import settings as auth
from services.key_vault import settings as key_vault
from services.provider_router import settings as provider_router
from services.workers.openai_compatible import settings as openai_compatible
from services.workers.openrouter import settings as openrouter

_EXAMPLE = Path(__file__).resolve().parent.parent / ".env.example"
_SERVICES: tuple[tuple[str, str, type], ...] = (
    ("auth", auth.PREFIX, auth.Settings),
    ("key-vault", key_vault.PREFIX, key_vault.Settings),
    ("provider-router", provider_router.PREFIX, provider_router.Settings),
    ("analytics", analytics.PREFIX, analytics.Settings),
    ("worker-<provider>, each with values of its own", worker.PREFIX, worker.Settings),
    ("also a worker-<provider> of the generic worker", worker.PREFIX, openai_compatible.RowSettings),
    ("also worker-openrouter", worker.PREFIX, openrouter.AppSettings),
)
_HEADER = """\
# Every setting of every service; written by `python -m deploy.settings_reference`, do not edit.
#
# `make run` needs none of it: the runner gives each process its own. Any variable may instead be given as NAME_FILE,
# the path of a file that holds the value; do so for secrets. A variable a service does not know is refused at start.
"""


def settings_reference() -> str:
    """Returns the text: required settings empty, optional ones commented out at their default."""
    lines = [_HEADER]
    for title, prefix, settings in _SERVICES:
        lines.append(f"# --- {title} ---")
        for name, kind, description, default in variables(settings, prefix):
            lines.append(f"# {description} ({kind})")
            required = default is dataclasses.MISSING
            lines.append(f"{name}=" if required else f"#{name}={_spelled(default)}")
        lines.append("")
    return "\n".join(lines)


def _spelled(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return "" if default is None or default in ({}, ()) else str(default)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with what is committed, change nothing")
    fresh = settings_reference()
    if not parser.parse_args().check:
        _EXAMPLE.write_text(fresh)
        return 0
    if _EXAMPLE.read_text() == fresh:
        return 0
    print(".env.example is out of date; run `python -m deploy.settings_reference`.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
