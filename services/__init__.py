"""The services of the platform, one folder each. None imports another."""
