"""A provider's worker, written once: everything but the provider's own wire format, which is its adapter's."""
