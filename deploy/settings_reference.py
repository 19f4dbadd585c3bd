"""Writes `.env.example` and `docs/operations/configure.md` from the settings every service declares.

`python -m deploy.settings_reference [--check]`. Of the page what stands before the marker is written by hand.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path

from deploy.envoy.render import EnvoyConfig
from libs.settings import variables
from libs.worker import settings as worker
from services.analytics import settings as analytics
from services.auth import settings as auth
from services.key_vault import settings as key_vault
from services.provider_router import settings as provider_router
from services.workers.openai_compatible import settings as openai_compatible
from services.workers.openrouter import settings as openrouter

_ROOT = Path(__file__).resolve().parent.parent
_EXAMPLE = _ROOT / ".env.example"
_PAGE = _ROOT / "docs" / "operations" / "configure.md"
_MARKER = "<!-- What follows is written by `python -m deploy.settings_reference`; do not edit. -->\n"
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


def configuration_page(by_hand: str) -> str:
    """Returns the page: the text that was written by hand, and a table for each service and for Envoy."""
    lines = [by_hand + _MARKER]
    for title, prefix, settings in _SERVICES:
        lines += [f"## {title}", "", "| variable | type | default | |", "|---|---|---|---|"]
        for name, kind, description, default in variables(settings, prefix):
            lines.append(_row(f"`{name}`", f"`{kind}`", _shown(default), description))
        lines.append("")
    lines += ["## envoy", "", "Fields of the JSON that `python -m deploy.envoy.render --config` reads.", ""]
    lines += [*_paragraphs(EnvoyConfig), "| field | type | default |", "|---|---|---|"]
    for field in dataclasses.fields(EnvoyConfig):
        lines.append(_row(f"`{field.name}`", f"`{field.type}`", _shown(field.default)))
    return "\n".join([*lines, ""])


def _paragraphs(documented: type) -> Iterable[str]:
    # But for the first, which is the summary.
    for paragraph in inspect.cleandoc(documented.__doc__ or "").split("\n\n")[1:]:
        yield from (paragraph, "")


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _shown(default: object) -> str:
    if default is dataclasses.MISSING:
        return "**required**"
    spelled = _spelled(default)
    return f"`{spelled}`" if spelled else ""


def _spelled(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return "" if default is None or default in ({}, ()) else str(default)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with what is committed, change nothing")
    by_hand = _PAGE.read_text().partition(_MARKER)[0]
    fresh = {_EXAMPLE: settings_reference(), _PAGE: configuration_page(by_hand)}
    if not parser.parse_args().check:
        for path, text in fresh.items():
            path.write_text(text)
        return 0
    outdated = [str(path.relative_to(_ROOT)) for path, text in fresh.items() if path.read_text() != text]
    if not outdated:
        return 0
    print(f"Out of date: {', '.join(outdated)}; run `python -m deploy.settings_reference`.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
