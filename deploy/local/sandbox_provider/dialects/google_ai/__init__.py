"""The API of Google AI."""
