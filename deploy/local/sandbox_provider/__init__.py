"""The sandbox provider: the one fake of the system, the LLM provider at its far end."""
