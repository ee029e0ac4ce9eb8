"""Composition root, preflight, life cycle."""
