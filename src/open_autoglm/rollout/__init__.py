"""Versions of models: what they are, how they travel, and how traffic moves from one to the next."""
