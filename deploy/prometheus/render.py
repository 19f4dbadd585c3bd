"""Renders the configuration of Prometheus, for a local run and for production alike.

`python -m deploy.prometheus.render --targets targets.json > prometheus.yml`; the JSON gives the host:port list of the
metrics of each service, worker and Envoy, by its name.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_FOLDER = Path(__file__).resolve().parent
ALERTS = _FOLDER / "alerts.yml"
_SCRAPE_SECONDS = 15


@dataclass(frozen=True, slots=True)
class _Targets:
    """Where one job is scraped: host:port as it is, and names with their port, which stand for all replicas."""

    addresses: list[str] = field(default_factory=list)
    names: list[tuple[str, int]] = field(default_factory=list)


def render(
    targets: Mapping[str, Sequence[str]],
    *,
    alerts: Path = ALERTS,
    runbooks: str = "docs/runbooks.md",
    scrape_seconds: int = _SCRAPE_SECONDS,
) -> str:
    """Returns the configuration as YAML. `runbooks` is the URL at which docs/runbooks.md can be read.

    Raises ValueError for a target that is not host:port.
    """
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        undefined=StrictUndefined,
        # Every value is written as JSON, which is YAML: none can break out of its place.
        finalize=lambda value: Markup(json.dumps(value, default=str)),  # noqa: S704 - for YAML, where JSON is safe
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("prometheus.yml.j2").render(
        jobs={job: _sorted_out(addresses) for job, addresses in targets.items()},
        alerts=alerts,
        runbooks=runbooks,
        scrape_seconds=scrape_seconds,
    )


def _sorted_out(addresses: Sequence[str]) -> _Targets:
    found = _Targets()
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError(f"{address} is not host:port")
        if _is_ip(host):
            found.addresses.append(address)
        else:
            found.names.append((host, int(port)))
    return found


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def main() -> None:
    """Writes the configuration to the standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=Path, required=True, help="JSON file with the host:port lists by job")
    parser.add_argument("--alerts", type=Path, default=ALERTS, help="where Prometheus finds alerts.yml")
    parser.add_argument("--runbooks", default="docs/runbooks.md", help="URL at which docs/runbooks.md can be read")
    arguments = parser.parse_args()
    targets = json.loads(arguments.targets.read_text())
    sys.stdout.write(render(targets, alerts=arguments.alerts, runbooks=arguments.runbooks))


if __name__ == "__main__":
    main()
