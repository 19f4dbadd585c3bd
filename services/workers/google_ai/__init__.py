"""Worker for Google AI."""
