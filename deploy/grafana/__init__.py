"""Grafana: where it finds its data, and the dashboards."""
