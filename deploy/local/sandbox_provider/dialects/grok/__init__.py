"""The API of xAI."""
