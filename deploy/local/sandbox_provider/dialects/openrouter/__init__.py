"""The API of OpenRouter."""
