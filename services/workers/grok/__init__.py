"""Worker for xAI's Grok."""
