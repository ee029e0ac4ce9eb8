"""Metrics, logs and explain records."""
