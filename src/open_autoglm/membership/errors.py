"""What is wrong with a message of another member: the message is dropped, and counted; nothing else happens."""

from __future__ import annotations


class GossipError(ValueError):
    """A message that is not understood, not authentic, or not new."""
