"""Worker for Anthropic."""
