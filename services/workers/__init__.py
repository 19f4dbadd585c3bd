"""The workers, one folder for each provider: its adapter and its entry point."""
