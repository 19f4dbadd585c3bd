"""The front door: one Envoy configuration for local runs and production, and what it is made from."""
