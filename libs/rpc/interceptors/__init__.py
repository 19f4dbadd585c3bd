"""What every call passes through, outermost first; the order stands in `libs.rpc.server`."""
