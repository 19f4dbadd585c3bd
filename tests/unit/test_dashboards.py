"""The files of Grafana and Prometheus: as they are written down in code, and whole."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from deploy.grafana.build import FOLDER, files
from deploy.grafana.pages import DASHBOARDS
from deploy.prometheus.render import ALERTS, render

COLUMNS = 24


def panels(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text())["panels"]
    return found


def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
    """Returns the cells of the grid that a panel lies on."""
    at = panel["gridPos"]
    return {(at["x"] + column, at["y"] + row) for column in range(at["w"]) for row in range(at["h"])}


class TestDashboards:
    def test_files_are_up_to_date(self) -> None:
        assert {path: path.read_text() for path in FOLDER.glob("*.json")} == files()

    def test_addresses_are_told_apart(self) -> None:
        assert len({dashboard.uid for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS)

    @pytest.mark.parametrize("name", DASHBOARDS)
    def test_panels_lie_side_by_side_and_say_what_they_show(self, name: str) -> None:
        taken: set[tuple[int, int]] = set()
        for panel in panels(name):
            assert not cells(panel) & taken, panel["title"]
            taken |= cells(panel)
            assert panel["type"] == "row" or len(panel["description"]) > 5
        assert max(column for column, _ in taken) < COLUMNS
        assert len({panel["id"] for panel in panels(name)}) == len(panels(name))

    @pytest.mark.parametrize("name", DASHBOARDS)
    def test_variables_are_there_and_of_use(self, name: str) -> None:
        words = {"$__rate_interval"} | {f"${variable.name}" for variable in DASHBOARDS[name].variables}
        used = {word for text in DASHBOARDS[name].expressions() for word in re.findall(r"\$\w+", text)}
        assert used | {"$__rate_interval"} == words

    @pytest.mark.parametrize("name", DASHBOARDS)
    def test_legends_name_labels_that_are_left(self, name: str) -> None:
        for row in DASHBOARDS[name].rows:
            for query in (query for panel in row.panels for query in panel.queries):
                named = set(re.findall(r"{{(\w+)}}", query.legend))
                left = {
                    label.strip()
                    for labels in re.findall(r"by \(([^)]*)\)", query.expression)
                    for label in labels.split(",")
                }
                assert named <= left, query


class TestPrometheus:
    def test_names_stand_for_all_replicas_and_addresses_for_themselves(self) -> None:
        text = render(
            {"auth": ["auth:9100"], "envoy": ["127.0.0.1:9901", "[::1]:9901"]}, runbooks="https://x.example/r"
        )
        assert '{type: A, port: 9100, names: ["auth"]}' in text
        assert 'targets: ["127.0.0.1:9901", "[::1]:9901"]' in text
        assert 'external_labels: {runbooks: "https://x.example/r" }' in text
        assert f'rule_files: ["{ALERTS}"]' in text

    @pytest.mark.parametrize("target", ["auth", "auth:", ":9100", "auth:http"])
    def test_what_is_no_address_is_refused(self, target: str) -> None:
        with pytest.raises(ValueError, match="is not host:port"):
            render({"auth": [target]})

    def test_the_tested_alerts_exist(self) -> None:
        names = set(re.findall(r"- alert: (\w+)", ALERTS.read_text()))
        tested = set(re.findall(r"alertname: (\w+)", Path(ALERTS.parent, "alerts_test.yml").read_text()))
        assert tested
        assert tested <= names
