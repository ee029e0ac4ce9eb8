"""API keys. Fetches nothing."""
