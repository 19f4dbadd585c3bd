"""Writes the dashboards: `python -m deploy.grafana.build`, with `--check` to be told when they are not up to date."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from deploy.grafana.pages import DASHBOARDS

FOLDER = Path(__file__).resolve().parent / "dashboards"


def files() -> dict[Path, str]:
    """Returns the text of each file there shall be."""
    return {
        FOLDER / f"{name}.json": json.dumps(dashboard.to_json(), indent=1, ensure_ascii=False) + "\n"
        for name, dashboard in DASHBOARDS.items()
    }


def main() -> None:
    """Writes the files, or says which of them are not as they shall be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    wanted = files()
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    stale += [path for path in FOLDER.glob("*.json") if path not in wanted]
    if check and stale:
        names = ", ".join(sorted(path.name for path in stale))
        sys.exit(f"Dashboards are not up to date ({names}): python -m deploy.grafana.build")
    for path in stale:
        if path in wanted:
            path.write_text(wanted[path])
        else:
            path.unlink()


if __name__ == "__main__":
    main()
