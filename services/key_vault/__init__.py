"""Key vault: keeps what people configured for each provider, keys sealed by Vault, and opens keys for workers only."""
