"""Prometheus: what it scrapes, and what it alerts of."""
