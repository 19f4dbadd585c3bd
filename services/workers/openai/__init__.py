"""Worker for OpenAI."""
