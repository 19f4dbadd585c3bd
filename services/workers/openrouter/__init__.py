"""Worker for OpenRouter."""
