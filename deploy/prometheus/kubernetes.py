"""Writes the alerts for the Prometheus operator: `python -m deploy.prometheus.kubernetes`; with `--check`, compares.

Kustomize cannot make one object of another's file, so that what it applies is written here, from alerts.yml.
"""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.prometheus.render import ALERTS

_WRITTEN = Path(__file__).parents[1] / "kubernetes/components/monitoring/alerts.yaml"
_HEAD = """\
# Written by `python -m deploy.prometheus.kubernetes` from deploy/prometheus/alerts.yml; change that, not this.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: realmultillm
spec:
"""


def prometheus_rule() -> str:
    """Returns the alerts as an object of the operator."""
    rules = ALERTS.read_text().partition("\ngroups:\n")[2]
    return f"{_HEAD}  groups:\n" + "".join(f"  {line}" if line.strip() else line for line in rules.splitlines(True))


def main() -> None:
    """Writes the file, or ends with status 1 when it is not as it should be."""
    if sys.argv[1:] != ["--check"]:
        _WRITTEN.write_text(prometheus_rule())
    elif _WRITTEN.read_text() != prometheus_rule():
        sys.exit(f"{_WRITTEN.name} is not up to date: python -m deploy.prometheus.kubernetes")


if __name__ == "__main__":
    main()
