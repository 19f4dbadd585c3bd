"""Measures what governance costs: `make bench`."""
