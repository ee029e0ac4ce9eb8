"""Adapters to models: over HTTP, and in process."""
