"""What dashboards are made of, and the JSON that Grafana reads.

Source: the JSON model of dashboards, https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

_SCHEMA = 39
_COLUMNS = 24
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_FOLDER_TAG = "realmultillm"


@dataclass(frozen=True, slots=True)
class Query:
    """What a panel asks Prometheus for, and what its lines are called: `{{label}}` stands for the value of a label."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture. `unit` is Grafana's id of one; `warn_above` and `bad_above` colour a stat."""

    title: str
    queries: Sequence[Query]
    about: str
    kind: Literal["timeseries", "stat", "table", "heatmap", "state-timeline"] = "timeseries"
    unit: str = "short"
    width: int = 8
    height: int = 8
    stacked: bool = False
    warn_above: float | None = None
    bad_above: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A heading, and the panels below it."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice among the values of a label, several or all of them."""

    name: str
    label: str
    metric: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """One page. `uid` is a part of its address, which people keep."""

    uid: str
    title: str
    about: str
    rows: Sequence[Row]
    variables: Sequence[Variable] = ()

    def expressions(self) -> Iterator[str]:
        """Yields every PromQL expression of the page."""
        for row in self.rows:
            for panel in row.panels:
                for query in panel.queries:
                    yield query.expression

    def to_json(self) -> dict[str, Any]:
        """Returns what Grafana reads."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.about,
            "tags": [_FOLDER_TAG],
            "schemaVersion": _SCHEMA,
            "version": 1,
            "editable": False,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": "now-6h", "to": "now"},
            "timezone": "browser",
            "links": [
                {
                    "type": "dashboards",
                    "title": "RealMultiLLM",
                    "tags": [_FOLDER_TAG],
                    "asDropdown": True,
                    "includeVars": True,
                    "keepTime": True,
                    "icon": "external link",
                }
            ],
            "annotations": {"list": [_firing_alerts()]},
            "templating": {"list": [_datasource(), *map(_variable, self.variables)]},
            "panels": list(_laid_out(self.rows)),
        }


def _laid_out(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    number, top = 0, 0
    for row in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": top, "w": _COLUMNS, "h": 1},
            "panels": [],
        }
        top, left, tallest = top + 1, 0, 0
        for panel in row.panels:
            if left + panel.width > _COLUMNS:
                top, left, tallest = top + tallest, 0, 0
            number += 1
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            yield {"id": number, "gridPos": place, **_panel(panel)}
            left, tallest = left + panel.width, max(tallest, panel.height)
        top += tallest


def _panel(panel: Panel) -> dict[str, Any]:
    instant = panel.kind in ("stat", "table")
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _DATASOURCE,
        "targets": [_target(n, query, panel, instant=instant) for n, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
        **_table_columns(panel),
    }


def _target(number: int, query: Query, panel: Panel, *, instant: bool) -> dict[str, Any]:
    return {
        "refId": chr(ord("A") + number),
        "datasource": _DATASOURCE,
        "expr": query.expression,
        "legendFormat": query.legend or "__auto",
        "instant": instant,
        "range": not instant,
        "format": {"table": "table", "heatmap": "heatmap"}.get(panel.kind, "time_series"),
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0, "thresholds": _thresholds(panel)}
    if panel.kind == "timeseries":
        defaults["color"] = {"mode": "palette-classic"}
        defaults["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 20 if panel.stacked else 5,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        }
    elif panel.kind == "stat":
        defaults["color"] = {"mode": "thresholds"}
        defaults["noValue"] = "none"
    elif panel.kind == "state-timeline":
        defaults["color"] = {"mode": "thresholds"}
        defaults["custom"] = {"fillOpacity": 70}
        defaults["max"] = 1
    return defaults


def _thresholds(panel: Panel) -> dict[str, Any]:
    if panel.kind == "state-timeline":
        steps = [{"color": "red", "value": None}, {"color": "green", "value": 1}]
    else:
        steps = [{"color": "green" if panel.bad_above is not None else "text", "value": None}]
        if panel.warn_above is not None:
            steps.append({"color": "orange", "value": panel.warn_above})
        if panel.bad_above is not None:
            steps.append({"color": "red", "value": panel.bad_above})
    return {"mode": "absolute", "steps": steps}


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "none"}
    if panel.kind == "heatmap":
        return {"calculate": False, "yAxis": {"unit": panel.unit}, "color": {"scheme": "Oranges", "mode": "scheme"}}
    if panel.kind == "state-timeline":
        return {"showValue": "never", "legend": {"showLegend": False}}
    if panel.kind == "table":
        return {"showHeader": True, "sortBy": [{"displayName": "Value", "desc": True}]}
    return {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["mean", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _table_columns(panel: Panel) -> dict[str, Any]:
    if panel.kind != "table":
        return {}
    return {"transformations": [{"id": "organize", "options": {"excludeByName": {"Time": True}}}]}


def _firing_alerts() -> Mapping[str, Any]:
    return {
        "name": "Alerts",
        "datasource": _DATASOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{alertstate="firing"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{job}} {{provider}}",
    }


def _datasource() -> Mapping[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _variable(variable: Variable) -> Mapping[str, Any]:
    query = f"label_values({variable.metric}, {variable.label})"
    return {
        "name": variable.name,
        "label": variable.name.capitalize(),
        "type": "query",
        "datasource": _DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": "variable"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }
